// What the server says of whole vaults, and their erasure.

import * as z from "zod";

import { PARAMETER_BYTES_MAX } from "./query.js";
import { historyShape } from "./records.js";
import { countSchema, epochSchema, timestampSchema, utf8Schema } from "./scalars.js";

/** Schema of {@link Usage}. */
export const usageSchema = z.object({
  /** Number of records that are no tombstones; null, like the other counters, if the vault was not counted yet. */
  records: countSchema.nullable(),
  /** Number of tombstones. */
  tombstones: countSchema.nullable(),
  /** Bytes of ciphertext, tombstones included. */
  bytes: countSchema.nullable(),
  /** Bytes of ciphertext in the replaced versions that are kept. */
  historyBytes: countSchema,
  ...historyShape,
});

/** What a vault takes up. */
export type Usage = z.infer<typeof usageSchema>;

/** Schema of {@link VaultSummary}. */
export const vaultSummarySchema = z.object({
  /** Name of the vault; null for the default vault. */
  name: z.string().nullable(),
  /** Name of the vault's history, opaque to clients. */
  epoch: z.string(),
  /** The vault's clock: the latest `updated_at` that it has assigned. */
  head: timestampSchema,
  /** Number of records that are no tombstones; null if the vault was not counted yet. */
  records: countSchema.nullable(),
  /** Bytes of ciphertext, tombstones included; null if the vault was not counted yet. */
  bytes: countSchema.nullable(),
});

/** One vault of a user. */
export type VaultSummary = z.infer<typeof vaultSummarySchema>;

/** Schema of {@link Vaults}. */
export const vaultsSchema = z.object({
  /** The default vault first, then the named ones by name. */
  vaults: z.array(vaultSummarySchema),
});

/** The vaults of a user. */
export type Vaults = z.infer<typeof vaultsSchema>;

/** Schema of {@link EraseVaultQuery}. */
export const eraseVaultQuerySchema = z.object({
  /** The vault's `epoch`. */
  confirm: epochSchema,
});

/** Query of `DELETE /api/sync/vault` and `DELETE /api/sync/vaults/NAME`. */
export type EraseVaultQuery = z.infer<typeof eraseVaultQuerySchema>;

/** Schema of {@link EraseAccountQuery}. Whether the subject is that of the token is for the server to check. */
export const eraseAccountQuerySchema = z.object({
  /** The subject of the token (`sub`). */
  confirm: utf8Schema(1, PARAMETER_BYTES_MAX, `must be 1 to ${PARAMETER_BYTES_MAX} bytes of UTF-8`),
});

/** Query of `DELETE /api/sync/account`. */
export type EraseAccountQuery = z.infer<typeof eraseAccountQuerySchema>;

/** Schema of {@link Erased}. */
export const erasedSchema = z.object({
  /** How many vaults were erased. */
  vaults: countSchema,
});

/** Response to an erasure. */
export type Erased = z.infer<typeof erasedSchema>;
