// Compares the schemas of the package with the OpenAPI document, member by member. Prints every difference, and fails
// if there is one.

import * as api from "@vaultsync/api";
import * as z from "zod";
import { type JsonSchema, operations, readDocument, resolve, schemaOf } from "./document.js";

const [file = ""] = process.argv.slice(2);
const document = readDocument(file);
const differences: string[] = [];

/** The schemas of queries, by the id of the operation. */
const QUERIES: Record<string, z.ZodType> = {
  account: api.eraseAccountQuerySchema,
  events: api.eventsQuerySchema,
  export: api.exportQuerySchema,
  history: api.historyQuerySchema,
  manifest: api.manifestQuerySchema,
  pull: api.pullQuerySchema,
  vault: api.eraseVaultQuerySchema,
};

// The document lists today's codes, and the schema accepts any: its type and FAILURE_CODES have the list.
const OPEN_ENUMS = ["Failure.code"];

/** Keywords of one value that must be the same. Rules of text are functions in the package, which requests test. */
const KEYWORDS = ["const", "enum", "minimum", "maximum", "minItems", "maxItems", "format", "contentEncoding"];

function compare(path: string, documented: unknown, packaged: unknown): void {
  const [want, have] = [documented, packaged].map((value) => JSON.stringify(value));
  if (want !== have) differences.push(`${path}: the document has ${want}, the package ${have}`);
}

function fromPackage(schema: z.ZodType): JsonSchema {
  return z.toJSONSchema(schema, { io: "input" }) as JsonSchema;
}

/** The schema without the alternative `null`, and its types. */
function unwrap(schema: JsonSchema): { schema: JsonSchema; types: string[] } {
  const isNull = ({ type }: JsonSchema) => type === "null";
  const alternatives = schema.anyOf ?? schema.oneOf;
  const [first, ...others] = alternatives?.filter((one) => !isNull(one)) ?? [schema];
  if (first === undefined || others.length > 0) return { schema, types: ["one of several"] };
  const only = resolve(document, first);
  const types = [only.type ?? "anything", ...(alternatives?.some(isNull) ? ["null"] : [])].flat();
  return { schema: only, types: types.sort() };
}

function keyword(schema: JsonSchema, name: string): unknown {
  const value = schema[name];
  // Widths of integers are of no use in JavaScript, and Zod writes down the largest integer of JavaScript everywhere.
  return value === "int32" || value === Number.MAX_SAFE_INTEGER ? undefined : value;
}

function compareSchemas(path: string, documented: JsonSchema, packaged: JsonSchema): void {
  const want = unwrap(documented);
  const have = unwrap(packaged);
  compare(`${path}: types`, want.types, have.types);
  for (const name of KEYWORDS) {
    if (name === "enum" && OPEN_ENUMS.includes(path)) continue;
    compare(`${path}: ${name}`, keyword(want.schema, name), keyword(have.schema, name));
  }
  const [wantMembers, haveMembers] = [want, have].map(({ schema }) => schema.properties ?? {});
  compare(`${path}: members`, Object.keys(wantMembers ?? {}).sort(), Object.keys(haveMembers ?? {}).sort());
  compare(`${path}: required`, (want.schema.required ?? []).sort(), (have.schema.required ?? []).sort());
  for (const [name, member] of Object.entries(wantMembers ?? {})) {
    const other = haveMembers?.[name];
    if (other !== undefined) compareSchemas(`${path}.${name}`, member, other);
  }
  if (want.schema.items && have.schema.items) compareSchemas(`${path}[]`, want.schema.items, have.schema.items);
}

for (const [name, schema] of Object.entries(document.components.schemas)) {
  const packaged = schemaOf(name);
  if (packaged === undefined) differences.push(`${name}: the package has no schema of it`);
  else compareSchemas(name, schema, fromPackage(packaged));
}

for (const { operationId, parameters = [] } of operations(document)) {
  const documented = parameters.filter((one) => one.in === "query");
  if (documented.length === 0) continue;
  const schema = QUERIES[operationId.replace(/_in_vault$/, "")];
  if (schema === undefined) {
    differences.push(`${operationId}: the package has no schema of its query`);
    continue;
  }
  const { properties = {}, required = [] } = fromPackage(schema);
  compare(`${operationId}: parameters`, documented.map(({ name }) => name).sort(), Object.keys(properties).sort());
  compare(
    `${operationId}: required parameters`,
    documented.filter((one) => one.required).map(({ name }) => name),
    required,
  );
}

for (const { operationId, parameters = [] } of operations(document)) {
  for (const { schema } of parameters.filter((one) => one.in === "path")) {
    const packaged = fromPackage(api.vaultNameSchema);
    for (const name of ["minLength", "maxLength", "pattern"]) {
      compare(`${operationId}: ${name} of the vault's name`, schema[name], packaged[name]);
    }
  }
}

/** The codes that the document lists for a status. */
function documentedCodes(status: string): Set<string> {
  const codes = operations(document).flatMap(({ responses }) => {
    const parts = responses[status]?.content?.["application/json"]?.schema.allOf ?? [];
    return parts.flatMap(({ properties }) => properties?.["code"]?.enum ?? []);
  });
  return new Set(codes);
}

for (const [status, codes] of Object.entries(api.FAILURE_CODES)) {
  // No operation lists 404 and 405, because these are responses to other requests.
  if (status === "404" || status === "405") continue;
  compare(`codes of ${status}`, [...documentedCodes(status)].sort(), [...codes].sort());
}
const allCodes = document.components.schemas["Failure"]?.properties?.["code"]?.enum;
compare("all codes", allCodes, Object.values(api.FAILURE_CODES).flat());

const features = document.components.schemas["Info"]?.properties?.["features"]?.["example"];
compare("features", features, api.FEATURES);

differences.forEach((difference) => console.error(difference));
process.exitCode = differences.length > 0 ? 1 : 0;
