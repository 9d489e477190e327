// A client made of the types of openapi-typescript: it pushes, resolves a conflict, and pulls.

import createClient from "openapi-fetch";
import type { components, paths } from "./generated/openapi-typescript";

type Schemas = components["schemas"];
type Operation = Schemas["Operation"];

const baseUrl = process.env["VAULTSYNC_URL"]!;
const headers = { Authorization: `Bearer ${process.env["VAULTSYNC_TOKEN"]}` };
const client = createClient<paths>({ baseUrl, headers });

const recordId = "with-openapi-typescript";

/** `success` tells the two responses of a push apart. */
function versionOf(answer: Schemas["PushApplied"] | Schemas["PushRefused"]): number | undefined {
  return answer.success ? answer.results[0]?.version : answer.conflicts[0]?.currentVersion;
}

/** `code` is one of the documented codes. */
function canBeRetried({ code }: Schemas["Failure"]): boolean {
  // @ts-expect-error: there is no such code.
  if (code === "unavailabel") return true;
  return code === "unavailable" || code === "outcome_unknown" || code === "rate_limited";
}

/** Pushes one operation, and returns the version that the record has then. */
async function push(operation: Operation): Promise<{ applied: boolean; version: number }> {
  const { data, error, response } = await client.POST("/api/sync/push", { body: { operations: [operation] } });
  const answer = data ?? (error && "success" in error ? error : undefined);
  const version = answer && versionOf(answer);
  if (answer === undefined || version === undefined) {
    const failure = error && "code" in error ? error : undefined;
    throw new Error(`${response.status} ${failure?.code}, retry: ${failure && canBeRetried(failure)}`);
  }
  return { applied: answer.success, version };
}

async function pullAll(): Promise<Schemas["Record"][]> {
  const records: Schemas["Record"][] = [];
  let cursor: string | undefined;
  for (;;) {
    const query = cursor === undefined ? { limit: 1 } : { limit: 1, cursor };
    const { data, error } = await client.GET("/api/sync/pull", { params: { query } });
    if (error !== undefined) throw new Error(error.code);
    records.push(...data.records);
    cursor = data.nextCursor ?? cursor;
    if (!data.hasMore) return records;
  }
}

// @ts-expect-error: a version is a number and not a text.
const withText: Operation = { recordId, baseVersion: "1", ciphertext: "MQ==", deleted: false };
// @ts-expect-error: a version is a number and not a BigInt, which JSON cannot represent.
const withBigInt: Operation = { recordId, baseVersion: 1n, ciphertext: "MQ==", deleted: false };
void [withText, withBigInt];

async function main(): Promise<void> {
  const first = await push({ recordId, baseVersion: null, ciphertext: "MQ==", deleted: false });
  const conflict = await push({ recordId, baseVersion: null, ciphertext: "Mg==", deleted: false });
  const merged = await push({ recordId, baseVersion: conflict.version, ciphertext: "Mg==", deleted: false });
  await push({ recordId: `${recordId}-2`, baseVersion: null, ciphertext: "Mw==", deleted: false });
  const pulled = (await pullAll()).map(({ recordId, version }) => [recordId, version]);
  console.log(JSON.stringify({ first, conflict, merged, pulled }));
}

main().catch((error: unknown) => {
  console.error(error);
  process.exitCode = 1;
});
