// What the types allow and forbid. Only compiled.

import {
  type Failure,
  type Info,
  type LimitsInfo,
  type Operation,
  type Page,
  type PullQuery,
  type PushApplied,
  type PushOutcome,
  type PushRequest,
  type Record,
  type StreamLine,
  operationSchema,
  pullQuerySchema,
  pushRequestSchema,
} from "@vaultsync/api";

/** `success` tells the two outcomes of a push apart. */
export function versionOf(outcome: PushOutcome): number | undefined {
  return outcome.success ? outcome.results[0]?.version : outcome.conflicts[0]?.currentVersion;
}

/** `code` can be compared with the known codes, and may be another one. */
export function canBeRetried({ code }: Failure): boolean {
  const known: "unavailable" | (string & {}) = code;
  return known === "unavailable" || code === "outcome_unknown" || code === "rate_limited";
}

/** The limits of a server are those of its pushes. */
export function parserOf({ limits }: Info): ReturnType<typeof pushRequestSchema> {
  return pushRequestSchema(limits);
}

/** A page has every member, and the head before a push can be absent or null. */
export function cursorOf(page: Page, applied: PushApplied): string | null | undefined {
  const records: Record[] = page.records;
  const first: Record | undefined = records[0];
  return first?.updated_at ?? page.nextCursor ?? applied.headBefore;
}

/** A member tells the end of a stream from a record. */
export function isEnd(line: StreamLine): boolean {
  return "hasMore" in line ? line.nextCursor !== undefined : line.deleted;
}

export const operation: Operation = { recordId: "a", baseVersion: null, ciphertext: "", deleted: true };
export const push: PushRequest = { operations: [operation], guards: [{ recordId: "k", version: 0 }], epoch: null };
export const query: PullQuery = pullQuerySchema.parse({ limit: "7" });
export const limit: number | undefined = query.limit;
export const limits: Pick<LimitsInfo, "ciphertextBytesMax"> = { ciphertextBytesMax: 10 };
export const parsed: Operation = operationSchema(limits).parse(operation);

// @ts-expect-error: a version is a number and not a text.
export const withText: Operation = { ...operation, baseVersion: "1" };
// @ts-expect-error: a version is a number and not a BigInt, which JSON cannot represent.
export const withBigInt: Operation = { ...operation, baseVersion: 1n };
// @ts-expect-error: a push has operations.
export const withoutOperations: PushRequest = {};
// @ts-expect-error: a guard has a version.
export const withoutVersion: PushRequest = { operations: [], guards: [{ recordId: "k" }] };
// @ts-expect-error: a record is an object of the server, with the time of its last write.
export const withoutTime: Record = { recordId: "a", version: 1, deleted: false, ciphertext: "" };
