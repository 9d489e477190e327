// Pushes: batches of writes, and both outcomes.

import * as z from "zod";

import { rejectRepeats, whenObject } from "./repeats.js";
import {
  CIPHERTEXT_BYTES_MAX,
  base64Schema,
  cursorSchema,
  epochSchema,
  recordIdSchema,
  timestampSchema,
  versionOrNoneSchema,
  versionSchema,
} from "./scalars.js";

/** Maximum number of operations in one push. */
export const OPERATIONS_MAX = 100;

/** Maximum number of guards in one push. */
export const GUARDS_MAX = 10;

/** The limits of a server that decide whether a push is valid. `limits` of its info has them. */
export interface PushLimits {
  /** Maximum size of one record's ciphertext in bytes, decoded; {@link CIPHERTEXT_BYTES_MAX} by default. */
  readonly ciphertextBytesMax?: number;
}

/** Schema of {@link Operation}, for a server with these limits. */
export function operationSchema({ ciphertextBytesMax = CIPHERTEXT_BYTES_MAX }: PushLimits = {}) {
  return z
    .object({
      /** The record's id: 1 to 255 bytes of UTF-8 without control characters. */
      recordId: recordIdSchema,
      /** The version that was edited; null for a new record. */
      baseVersion: versionOrNoneSchema.nullable(),
      /** Canonical standard base64 with padding. It may be empty only if `deleted` is true. */
      ciphertext: base64Schema(ciphertextBytesMax),
      /** Whether the write leaves a tombstone. */
      deleted: z.boolean(),
    })
    .refine(({ ciphertext, deleted }) => ciphertext !== "" || deleted, {
      error: "must not be empty unless deleted is true",
      path: ["ciphertext"],
      when: ({ issues }) => issues.length === 0,
    });
}

/** One write of a push. */
export type Operation = z.infer<ReturnType<typeof operationSchema>>;

/** Schema of {@link Guard}. */
export const guardSchema = z.object({
  /** Id of a record that the push does not write. */
  recordId: recordIdSchema,
  /** The version that the record must have; 0 if the server must not have it. */
  version: versionOrNoneSchema,
});

/** Condition of a push: a record is at this version. */
export type Guard = z.infer<typeof guardSchema>;

/** Schema of {@link PushRequest}, for a server with these limits. */
export function pushRequestSchema(limits: PushLimits = {}) {
  return z
    .object({
      /** At most {@link OPERATIONS_MAX}, each for another record. */
      operations: z.array(operationSchema(limits)).max(OPERATIONS_MAX),
      /** Conditions on records that the push does not write, at most {@link GUARDS_MAX}. */
      guards: z.array(guardSchema).max(GUARDS_MAX).nullish(),
      /** The `epoch` of an earlier response. The server returns 410 if the vault's history has another epoch. */
      epoch: epochSchema.nullish(),
      /** The time up to which the client knows every deletion. */
      since: cursorSchema.nullish(),
    })
    .refine(({ operations, guards }) => operations.length > 0 || (guards ?? []).length === 0, {
      error: "must be absent or empty if there are no operations",
      path: ["guards"],
      when: ({ issues }) => issues.length === 0,
    })
    .superRefine((push, context) => rejectRepeats(namedRecords(push), context), whenObject);
}

/** Body of `POST /api/sync/push`: a batch of writes, applied as a whole or not at all. */
export type PushRequest = z.infer<ReturnType<typeof pushRequestSchema>>;

/** Every record that a push names, valid or not. */
function* namedRecords({ operations, guards }: { operations: unknown; guards?: unknown }) {
  for (const [array, elements] of Object.entries({ operations, guards })) {
    if (!Array.isArray(elements)) continue;
    for (const [index, element] of elements.entries()) {
      yield { path: [array, index, "recordId"], id: element?.recordId };
    }
  }
}

/** Schema of {@link Written}. */
export const writtenSchema = z.object({
  /** Id of the record. */
  recordId: z.string(),
  /** Version of the record after the push. */
  version: versionSchema,
});

/** Result of a push for one record. */
export type Written = z.infer<typeof writtenSchema>;

/** Schema of {@link PushApplied}. */
export const pushAppliedSchema = z.object({
  /** Tells the two outcomes apart. */
  success: z.literal(true),
  /** What each operation wrote, in the order of the operations. */
  results: z.array(writtenSchema),
  /**
   * The vault's head before the push; null if nothing was ever pushed. Present, like `head`, only if the push wrote a
   * record now. A client whose cursor equals it may take `head` as its cursor; any other must not.
   */
  headBefore: timestampSchema.nullable().optional(),
  /** The vault's head after the push. */
  head: timestampSchema.optional(),
});

/** Response with status 200 to a push: every operation is applied. */
export type PushApplied = z.infer<typeof pushAppliedSchema>;

/** Schema of {@link Conflict}. */
export const conflictSchema = z.object({
  /** Id of the record. */
  recordId: z.string(),
  /** Current version; 0 if the server does not have the record. */
  currentVersion: versionOrNoneSchema,
  /** Current ciphertext; empty if the server does not have the record. */
  ciphertext: base64Schema(),
  /** Whether the record is a tombstone; true if the server does not have the record. */
  deleted: z.boolean(),
  /** Position in the vault's order; null if the server does not have the record. */
  updated_at: timestampSchema.nullable(),
  /** Present, and true, if the push has a guard on the record and no operation. */
  guard: z.boolean().optional(),
});

/** Conflicting record in its current state on the server. */
export type Conflict = z.infer<typeof conflictSchema>;

/** Schema of {@link PushRefused}. */
export const pushRefusedSchema = z.object({
  /** Tells the two outcomes apart. */
  success: z.literal(false),
  /** The conflicting records: those of the guards, then those of the operations. */
  conflicts: z.array(conflictSchema),
  /** Present, and true, if there are more conflicts than one response holds. */
  hasMore: z.boolean().optional(),
});

/** Response with status 409 to a push: nothing is written. */
export type PushRefused = z.infer<typeof pushRefusedSchema>;

/** Schema of {@link PushOutcome}. */
export const pushOutcomeSchema = z.discriminatedUnion("success", [pushAppliedSchema, pushRefusedSchema]);

/** Response to a push that the server has judged, with status 200 or 409. */
export type PushOutcome = z.infer<typeof pushOutcomeSchema>;
