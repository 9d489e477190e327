// Records as responses have them, and reads of records by id.

import * as z from "zod";

import { rejectRepeats, whenObject } from "./repeats.js";
import {
  base64Schema,
  digestSchema,
  epochSchema,
  recordIdSchema,
  timestampSchema,
  versionSchema,
} from "./scalars.js";

/** Maximum number of ids in one request for records. */
export const RECORD_IDS_MAX = 100;

/** Members that say which history a response was read from. */
export const historyShape = {
  /** Name of the vault's history, opaque to clients; null if nothing was ever pushed. */
  epoch: z.string().nullable(),
  /** The latest `updated_at` that the vault has assigned; null if nothing was ever pushed. It is no cursor. */
  head: timestampSchema.nullable(),
};

/** Members that every response about a stored record has. */
export const recordStateShape = {
  /** Id chosen by the client. */
  recordId: z.string(),
  /** Number of writes to the record. */
  version: versionSchema,
  /** Whether the record is a tombstone. */
  deleted: z.boolean(),
  /** Position in the vault's order; each write moves the record to a later one. */
  updated_at: timestampSchema,
};

/** Schema of {@link Record}. */
export const recordSchema = z.object({
  ...recordStateShape,
  /** Standard base64 of the last pushed bytes. */
  ciphertext: base64Schema(),
});

/** Record as a pull returns it. */
export type Record = z.infer<typeof recordSchema>;

/** Schema of {@link DigestedRecord}. */
export const digestedRecordSchema = recordSchema.extend({
  /** The first 16 bytes of the SHA-256 of the ciphertext, as 32 hexadecimal digits. */
  digest: digestSchema,
});

/** Record with the digest of its ciphertext. */
export type DigestedRecord = z.infer<typeof digestedRecordSchema>;

/** Schema of {@link RecordsRequest}. */
export const recordsRequestSchema = z
  .object({
    /** 1 to {@link RECORD_IDS_MAX} ids, none twice. */
    recordIds: z.array(recordIdSchema).min(1).max(RECORD_IDS_MAX),
    /** The `epoch` of an earlier response. The server returns 410 if the vault's history has another epoch. */
    epoch: epochSchema.nullish(),
  })
  .superRefine(({ recordIds }, context) => {
    if (!Array.isArray(recordIds)) return;
    rejectRepeats(recordIds.map((id, index) => ({ path: ["recordIds", index], id })), context);
  }, whenObject);

/** Body of `POST /api/sync/records`. */
export type RecordsRequest = z.infer<typeof recordsRequestSchema>;

/** Schema of {@link FoundRecords}. */
export const foundRecordsSchema = z.object({
  /** The records that the server has, tombstones included, in the order of the request. */
  records: z.array(digestedRecordSchema),
  /** Ids that the server has no record of, in the order of the request. */
  missing: z.array(z.string()),
  /** Whether the response is cut: ask again for the ids that are neither in `records` nor in `missing`. */
  hasMore: z.boolean(),
  ...historyShape,
});

/** Response to a read of records by id. */
export type FoundRecords = z.infer<typeof foundRecordsSchema>;
