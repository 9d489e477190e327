// Parses responses of a server with the schemas of the package. Prints every problem, and fails if there is one.

import { readFileSync } from "node:fs";
import { isDeepStrictEqual } from "node:util";
import { FAILURE_CODES, failureSchema, pushOutcomeSchema } from "@vaultsync/api";
import { componentOf, readDocument, schemaOf } from "./document.js";

/** A response, and the path of the request as the document names it. */
interface Response {
  what: string;
  method: string;
  path: string;
  status: number;
  /** What the body is, if the document does not say. */
  component?: string;
  body: unknown;
}

/** Codes that take more than a request: a fault of the server, or tokens of other issuers. */
const NOT_PRODUCED = [
  "internal",
  "outcome_unknown",
  "session_pending",
  "token_invalid_audience",
  "token_invalid_authorized_parties",
  "token_not_active_yet",
  "token_type_mismatch",
  "token_verification_failed",
];

const [documentFile = "", responsesFile = ""] = process.argv.slice(2);
const document = readDocument(documentFile);
const responses: Response[] = JSON.parse(readFileSync(responsesFile, "utf8"));
const problems: string[] = [];
const seen = new Set<string>();

/** The components of which a response may be one, as the document names them. */
function componentsOf(path: string, method: string, status: number | string): string[] {
  // The document has no responses to unknown paths, to unknown methods, and to preflights.
  if (document.paths[path]?.[method] === undefined) return ["Failure"];
  const { schema } = document.paths[path][method].responses[status]?.content?.["application/json"] ?? {};
  return (schema?.oneOf ?? [schema ?? {}]).flatMap((one) => componentOf(one) ?? []);
}

/** What is wrong with a body: the schema must accept it, and know each of its members. */
function problem(component: string, body: unknown): string | undefined {
  const parsed = schemaOf(component)?.safeParse(body);
  if (!parsed?.success) return `${component}: ${parsed?.error ?? "no schema"}: ${JSON.stringify(body)}`;
  if (isDeepStrictEqual(parsed.data, body)) return undefined;
  return `${component}: ${JSON.stringify(body)} is parsed as ${JSON.stringify(parsed.data)}`;
}

for (const { what, method, path, status, component, body } of responses) {
  const report = (text: string) => problems.push(`${what} (${method} ${path} ${status}): ${text}`);
  const candidates = component === undefined ? componentsOf(path, method, status) : [component];
  const fitting = candidates.filter((one) => problem(one, body) === undefined);
  const [name] = fitting;
  if (name === undefined || fitting.length > 1) {
    report(`${fitting.length} of ${candidates.length} fit. ${candidates.map((one) => problem(one, body)).join("; ")}`);
    continue;
  }
  seen.add(name);
  if (name.startsWith("Push") && !pushOutcomeSchema.safeParse(body).success) report("it is no outcome of a push");
  if (name === "Failure") {
    const { code } = failureSchema.parse(body);
    seen.add(code);
    const codes = new Map<string, readonly string[]>(Object.entries(FAILURE_CODES)).get(`${status}`);
    if (!codes?.includes(code)) report(`${code} is no code of this status`);
  }
}

const components = Object.entries(document.paths).flatMap(([path, methods]) =>
  Object.entries(methods).flatMap(([method, { responses }]) =>
    Object.keys(responses).flatMap((status) => componentsOf(path, method, status)),
  ),
);
const codes = Object.values(FAILURE_CODES).flat();
for (const name of new Set([...components, ...codes])) {
  if (!seen.has(name) && !NOT_PRODUCED.includes(name)) problems.push(`${name}: no response has it`);
}

problems.forEach((problem) => console.error(problem));
process.exitCode = problems.length > 0 ? 1 : 0;
