// History: replaced versions of records, and the states that records had.

import * as z from "zod";

import { numberParameterSchema, parameterSchema, timeParameterSchema } from "./query.js";
import { digestedRecordSchema, historyShape } from "./records.js";
import {
  VERSION_MAX,
  countSchema,
  cursorSchema,
  digestSchema,
  epochSchema,
  recordIdSchema,
  timestampSchema,
  versionOrNoneSchema,
  versionSchema,
} from "./scalars.js";

/** Maximum number of versions in a page, and of records that a page looks at; and the default of both. */
export const HISTORY_ENTRIES_MAX = 1000;

/** Schema of {@link HistoryQuery}. It takes strings, and returns numbers where a parameter is one. */
export const historyQuerySchema = z
  .object({
    /** The record. Either this or `at` must be given. */
    recordId: recordIdSchema.optional(),
    /** Only with `recordId`: lists only lower versions. */
    before: parameterSchema(numberParameterSchema(1, VERSION_MAX)),
    /** Only with `recordId`, and with neither `before` nor `limit`: returns this version. */
    version: numberParameterSchema(1, VERSION_MAX).optional(),
    /** A time of the vault's clock, such as a cursor. Not with `recordId`. */
    at: timeParameterSchema(cursorSchema).optional(),
    /** Only with `at`: looks only at records whose id is later in byte order. */
    after: parameterSchema(recordIdSchema),
    /** The maximum number of versions, or of records to look at; {@link HISTORY_ENTRIES_MAX} by default. */
    limit: numberParameterSchema(1, HISTORY_ENTRIES_MAX).optional(),
    /** The `epoch` of an earlier response. The server returns 410 if the vault's history has another epoch. */
    epoch: parameterSchema(epochSchema),
  })
  .superRefine(
    ({ recordId, before, version, at, after, limit }, context) => {
      const refuse = (path: string, value: unknown, message: string) => {
        if (value !== undefined) context.addIssue({ code: "custom", path: [path], message });
      };
      if (recordId === undefined && at === undefined) {
        refuse("recordId", true, "must be given, or at");
      } else if (recordId === undefined) {
        refuse("before", before, "must not be given without recordId");
        refuse("version", version, "must not be given without recordId");
      } else if (at !== undefined) {
        refuse("at", at, "must not be given with recordId");
      } else {
        refuse("after", after, "must not be given without at");
        if (version === undefined) return;
        refuse("before", before, "must not be given with version");
        refuse("limit", limit, "must not be given with version");
      }
    },
    { when: ({ issues }) => issues.length === 0 },
  );

/** Query of `GET /api/sync/history`, as it is read: for versions, for one version, or for the states at a time. */
export type HistoryQuery = z.infer<typeof historyQuerySchema>;

/** Schema of {@link KeptVersion}. */
export const keptVersionSchema = z.object({
  /** Number of writes to the record, this one included. */
  version: versionSchema,
  /** Whether the version is a tombstone. */
  deleted: z.boolean(),
  /** Position of the version in the vault's order. */
  updated_at: timestampSchema,
  /** The `updated_at` of the version that replaced it. */
  replaced_at: timestampSchema,
  /** Bytes of its ciphertext. */
  bytes: countSchema,
  /** The first 16 bytes of the SHA-256 of the ciphertext, as 32 hexadecimal digits. */
  digest: digestSchema,
});

/** Replaced version of a record, without its ciphertext. */
export type KeptVersion = z.infer<typeof keptVersionSchema>;

/** Schema of {@link RecordHistory}. */
export const recordHistorySchema = z.object({
  /** Id of the record. */
  recordId: z.string(),
  /** The versions that were replaced and are kept. The current version is not one of them. */
  versions: z.array(keptVersionSchema),
  /** The last version of the page, to be sent as `before` in the next request; null if there are no older ones. */
  next: versionSchema.nullable(),
  ...historyShape,
});

/** Response to a query with `recordId`: one page of the kept versions of a record, newest first. */
export type RecordHistory = z.infer<typeof recordHistorySchema>;

/** Schema of {@link RecordVersion}. */
export const recordVersionSchema = digestedRecordSchema.extend({
  /** The `updated_at` of the version that replaced it; null if it is the current one. */
  replaced_at: timestampSchema.nullable(),
});

/** Record as it was at one version. */
export type RecordVersion = z.infer<typeof recordVersionSchema>;

/** Schema of {@link FoundVersion}. */
export const foundVersionSchema = z.object({
  /** The record as it was at this version; null if the server does not have it. */
  record: recordVersionSchema.nullable(),
  ...historyShape,
});

/** Response to a query with `recordId` and `version`: one version of a record, if the server has it. */
export type FoundVersion = z.infer<typeof foundVersionSchema>;

/** Schema of {@link PastState}. */
export const pastStateSchema = z.object({
  /** Id of the record. */
  recordId: z.string(),
  /** The version that the record has now: the base version of a push that restores the state. */
  currentVersion: versionSchema,
  /** The version that the record had; 0 if it did not exist yet; null if that is not known. */
  version: versionOrNoneSchema.nullable(),
  /** Whether it was a tombstone. This member and the three that follow are null if `version` is 0 or null. */
  deleted: z.boolean().nullable(),
  /** Position of that version in the vault's order. */
  updated_at: timestampSchema.nullable(),
  /** Bytes of its ciphertext. */
  bytes: countSchema.nullable(),
  /** The first 16 bytes of the SHA-256 of its ciphertext, as 32 hexadecimal digits. */
  digest: digestSchema.nullable(),
  /** Whether the record was in this state at the cursor. If not, it was in a later one that is not kept. */
  exact: z.boolean(),
});

/** State that a record had at a cursor. */
export type PastState = z.infer<typeof pastStateSchema>;

/** Schema of {@link PastStates}. */
export const pastStatesSchema = z.object({
  /** Those records of the page that changed after the cursor. May be empty although there is a `next`. */
  entries: z.array(pastStateSchema),
  /** The last `recordId` that the page looked at, to be sent as `after`; null if there are no further records. */
  next: z.string().nullable(),
  ...historyShape,
});

/** Response to a query with `at`: one page of the states that records had, ordered by `recordId` in byte order. */
export type PastStates = z.infer<typeof pastStatesSchema>;
