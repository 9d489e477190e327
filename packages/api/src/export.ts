// Exports: a whole vault as a file of one JSON object a line.

import * as z from "zod";

import { recordVersionSchema } from "./history.js";
import { switchParameterSchema } from "./query.js";
import { digestedRecordSchema, historyShape } from "./records.js";
import { countSchema, timestampSchema } from "./scalars.js";

/** Schema of {@link ExportQuery}. It takes a string, and returns whether the history is asked for. */
export const exportQuerySchema = z.object({
  /** Whether the replaced versions that are kept follow the records. */
  history: switchParameterSchema(),
});

/** Query of `GET /api/sync/export`, as it is read. */
export type ExportQuery = z.infer<typeof exportQuerySchema>;

/** Schema of {@link ExportStart}. It refuses other formats and versions. */
export const exportStartSchema = z.object({
  /** Name of the format. */
  format: z.literal("vaultsync-export"),
  /** Version of the format. Later servers may add members without another number. */
  version: z.literal(1),
  /** Name of the vault; null for the default vault. */
  vault: z.string().nullable(),
  ...historyShape,
  /** When the export began, by the clock of the server. */
  exportedAt: timestampSchema,
  /** Whether kept versions follow the records. */
  history: z.literal(true).optional(),
});

/** First line of an export. No record of it is later than its `head`. */
export type ExportStart = z.infer<typeof exportStartSchema>;

/** Schema of {@link ExportEnd}. */
export const exportEndSchema = z.object({
  /** Number of records that are no tombstones. */
  records: countSchema,
  /** Number of tombstones. */
  tombstones: countSchema,
  /** Bytes of ciphertext. */
  bytes: countSchema,
  /** Number of kept versions, if the export has them. */
  versions: countSchema.optional(),
  /** Bytes of ciphertext of the kept versions, if the export has them. */
  historyBytes: countSchema.optional(),
  /** SHA-256 of all bytes before this line, in hexadecimal. */
  sha256: z.string().refine((text) => /^[0-9a-f]{64}$/.test(text), "must be 64 hexadecimal digits"),
  /** Whether the vault has changed since the export began. */
  hasMore: z.boolean(),
});

/** Last line of an export. An export without it is not complete. */
export type ExportEnd = z.infer<typeof exportEndSchema>;

/** Schema of {@link ExportedVersion}. */
export const exportedVersionSchema = recordVersionSchema.extend({
  /** The `updated_at` of the version that replaced it. */
  replaced_at: timestampSchema,
});

/** Kept version in an export with history. */
export type ExportedVersion = z.infer<typeof exportedVersionSchema>;

// A version whose time is not valid is no record.
const exportedRecordSchema = digestedRecordSchema.extend({ replaced_at: z.undefined().optional() });

/** Schema of {@link ExportLine}. */
export const exportLineSchema = z.union([exportedVersionSchema, exportedRecordSchema, exportEndSchema]);

/**
 * Line of an export after the first: a kept version, a record, or the end. Only the end has `hasMore`, and only a kept
 * version has `replaced_at`.
 */
export type ExportLine = z.infer<typeof exportLineSchema>;
