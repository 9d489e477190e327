// Sends requests to a server, and parses the same requests with the schemas of the package: both must accept or both
// must refuse, and report the same paths. The package must refuse the server's own corpus of bad requests, too. Prints
// every difference, and fails if there is one.

import { readFileSync } from "node:fs";
import { join } from "node:path";
import * as api from "@vaultsync/api";
import type * as z from "zod";
import { type Target, Text, cases } from "./cases.js";

const url = process.env["VAULTSYNC_URL"] ?? "";
const headers = { Authorization: `Bearer ${process.env["VAULTSYNC_TOKEN"]}` };
const [corpus = ""] = process.argv.slice(2);
const differences: string[] = [];

const NDJSON = "application/x-ndjson";

/** Where a request goes, and its schema. */
interface Destination {
  method: string;
  path: (request: string) => string;
  schema: z.ZodType;
  accept?: string;
}

const DESTINATIONS: Record<Target, Destination> = {
  push: { method: "POST", path: () => "push", schema: api.pushRequestSchema() },
  "post pull": { method: "POST", path: () => "pull", schema: api.pullRequestSchema },
  records: { method: "POST", path: () => "records", schema: api.recordsRequestSchema },
  pull: { method: "GET", path: (query) => `pull?${query}`, schema: api.pullQuerySchema },
  stream: { method: "GET", path: (query) => `pull?${query}`, schema: api.streamQuerySchema, accept: NDJSON },
  events: { method: "GET", path: (query) => `events?${query}`, schema: api.eventsQuerySchema },
  export: { method: "GET", path: (query) => `export?${query}`, schema: api.exportQuerySchema },
  history: { method: "GET", path: (query) => `history?${query}`, schema: api.historyQuerySchema },
  manifest: { method: "GET", path: (query) => `manifest?${query}`, schema: api.manifestQuerySchema },
  vault: { method: "GET", path: (name) => `vaults/${name}/pull`, schema: api.vaultNameSchema },
  erase: { method: "DELETE", path: (query) => `vault?${query}`, schema: api.eraseVaultQuerySchema },
};

/** The parameters of a query as web frameworks have them: an array if a parameter is given twice. */
function parameters(query: string): object {
  const search = new URLSearchParams(query);
  const value = (name: string) => (search.getAll(name).length > 1 ? search.getAll(name) : search.get(name));
  return Object.fromEntries([...search.keys()].map((name) => [name, value(name)]));
}

function sorted(paths: Iterable<string>): string[] {
  return [...new Set(paths)].sort();
}

/** The paths of a schema's issues as the server writes them, such as `operations[3].baseVersion`. */
function issuePaths(schema: z.ZodType, value: unknown): string[] {
  const issues = schema.safeParse(value).error?.issues ?? [];
  const text = (path: PropertyKey[]) => path.map((key) => (typeof key === "number" ? `[${key}]` : `.${String(key)}`));
  return sorted(issues.map(({ path }) => text(path).join("").replace(/^\./, "")));
}

/** Sends a request; undefined if the server accepts it, and otherwise the paths that it reports. */
async function send(path: string, request: RequestInit): Promise<string[] | undefined> {
  const response = await fetch(`${url}/api/sync/${path}`, request);
  const answer = await response.text();
  if (response.status !== 400) return undefined;
  const { issues = [] } = api.failureSchema.parse(JSON.parse(answer));
  return sorted(issues.map((issue) => issue.path));
}

function check(what: string, expected: readonly string[], found: readonly string[]): void {
  const [want, have] = [expected, found].map((paths) => JSON.stringify(paths));
  if (want !== have) differences.push(`${what}: ${have} and not ${want}`);
}

for (const [target, name, request, issues] of cases) {
  const what = `${target}: ${name}`;
  const { method, path, schema, accept = "application/json" } = DESTINATIONS[target];
  const inPath = method === "POST" ? "" : String(request);
  const text = request instanceof Text ? request.json : JSON.stringify(request);
  const body = method === "POST" ? text : undefined;
  const value: unknown = body !== undefined ? JSON.parse(body) : target === "vault" ? request : parameters(inPath);

  const paths = issuePaths(schema, value);
  // The name of a vault is no member of anything.
  const packaged = target === "vault" ? paths.map(() => "vault") : paths;
  const options: RequestInit = { method, headers: { ...headers, accept } };
  const served = await send(path(inPath), body === undefined ? options : { ...options, body });
  if (request instanceof Text && packaged.length > 0 && served?.length === 0) {
    // To the server this is not JSON, so it has no paths. JavaScript reads the text with everything that is wrong.
    if (!packaged.includes(issues[0] ?? "")) differences.push(`${what}: the package reports ${packaged.join()}`);
    continue;
  }
  check(`${what}: the package`, sorted(issues), packaged);
  check(`${what}: the server`, sorted(issues), served ?? []);
  if (served?.length === 0) differences.push(`${what}: the server reports no path`);
}
if (new Set(cases.map(([target, name]) => `${target}: ${name}`)).size < cases.length) differences.push("a name twice");

interface BadRequest {
  name: string;
  code: string;
  body?: string;
  query?: string;
  issues?: string[];
}

for (const file of ["pushes.json", "pulls.json"]) {
  const badRequests: BadRequest[] = JSON.parse(readFileSync(join(corpus, file), "utf8"));
  for (const { name, code, body, query = "", issues = [] } of badRequests) {
    // What JSON itself does not allow, and members that are given twice, are no longer visible once a body is parsed.
    const isLost = body !== undefined && name.includes("twice") && name !== "a record twice";
    if (code !== "invalid_request" || isLost) continue;
    const schema = body === undefined ? api.pullQuerySchema : api.pushRequestSchema();
    const value: unknown = body === undefined ? parameters(query) : JSON.parse(body);
    check(`${file}: ${name}`, sorted(issues), issuePaths(schema, value));
  }
}

differences.forEach((difference) => console.error(difference));
console.log(cases.length);
process.exitCode = differences.length > 0 ? 1 : 0;
