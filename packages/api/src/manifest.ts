// Manifests: which records a vault has, without their ciphertexts.

import * as z from "zod";

import { numberParameterSchema, parameterSchema } from "./query.js";
import { historyShape, recordStateShape } from "./records.js";
import { digestSchema, epochSchema, recordIdSchema } from "./scalars.js";

/** Maximum number of entries in one page of a manifest, and the default. */
export const MANIFEST_ENTRIES_MAX = 1000;

/** Schema of {@link ManifestQuery}. It takes strings, and returns numbers where a parameter is one. */
export const manifestQuerySchema = z.object({
  /** Returns only records whose id is later in byte order. */
  after: parameterSchema(recordIdSchema),
  /** The maximum number of entries in the page; {@link MANIFEST_ENTRIES_MAX} by default. */
  limit: numberParameterSchema(1, MANIFEST_ENTRIES_MAX).optional(),
  /** The `epoch` of an earlier response. The server returns 410 if the vault's history has another epoch. */
  epoch: parameterSchema(epochSchema),
});

/** Query of `GET /api/sync/manifest`, as it is read. */
export type ManifestQuery = z.infer<typeof manifestQuerySchema>;

/** Schema of {@link ManifestEntry}. */
export const manifestEntrySchema = z.object({
  ...recordStateShape,
  /** The first 16 bytes of the SHA-256 of the ciphertext, as 32 hexadecimal digits. */
  digest: digestSchema,
});

/** Record without its ciphertext. */
export type ManifestEntry = z.infer<typeof manifestEntrySchema>;

/** Schema of {@link Manifest}. */
export const manifestSchema = z.object({
  /** The records, tombstones included. */
  entries: z.array(manifestEntrySchema),
  /** The last `recordId` of the page, to be sent as `after`; null if there are no further records. */
  next: z.string().nullable(),
  ...historyShape,
});

/** One page of a manifest, ordered by `recordId` in byte order. */
export type Manifest = z.infer<typeof manifestSchema>;
