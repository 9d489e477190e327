/**
 * Types and schemas of Vaultsync's API.
 *
 * The schema of the type `Page` is `pageSchema`. A schema that depends on a limit of the server is a function that
 * takes the limits: `pushRequestSchema(limits)`.
 *
 * @packageDocumentation
 */

export * from "./events.js";
export * from "./export.js";
export * from "./failure.js";
export * from "./history.js";
export * from "./info.js";
export * from "./manifest.js";
export * from "./pull.js";
export * from "./push.js";
export {
  type DigestedRecord,
  type FoundRecords,
  RECORD_IDS_MAX,
  type Record,
  type RecordsRequest,
  digestedRecordSchema,
  foundRecordsSchema,
  recordSchema,
  recordsRequestSchema,
} from "./records.js";
export {
  CIPHERTEXT_BYTES_MAX,
  EPOCH_BYTES_MAX,
  RECORD_ID_BYTES_MAX,
  VERSION_MAX,
  type VaultName,
  base64Schema,
  cursorSchema,
  digestSchema,
  epochSchema,
  recordIdSchema,
  timestampSchema,
  vaultNameSchema,
} from "./scalars.js";
export * from "./stream.js";
export * from "./vaults.js";
