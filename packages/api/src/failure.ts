// Failures: the body of every response that reports an error, except the 409 of a push.

import * as z from "zod";

import { countSchema } from "./scalars.js";

/** The codes of each status. */
export const FAILURE_CODES = {
  400: ["invalid_json", "invalid_request"],
  401: [
    "unauthorized",
    "token_expired",
    "token_not_active_yet",
    "token_iat_in_the_future",
    "token_invalid_audience",
    "token_invalid_authorized_parties",
    "token_type_mismatch",
    "token_verification_failed",
    "session_pending",
  ],
  403: ["forbidden"],
  404: ["not_found"],
  405: ["method_not_allowed"],
  408: ["request_timeout"],
  410: ["epoch_changed", "cursor_ahead", "cursor_expired", "vault_erased"],
  413: ["payload_too_large"],
  415: ["unsupported_media_type"],
  429: ["rate_limited"],
  431: ["headers_too_large"],
  500: ["internal"],
  503: ["unavailable", "outcome_unknown"],
  507: ["too_many_vaults", "quota_exceeded"],
} as const;

/** Status of a failure. */
export type FailureStatus = keyof typeof FAILURE_CODES;

/** Kind of a failure. Later versions of the server may add some. */
export type FailureCode = (typeof FAILURE_CODES)[FailureStatus][number];

/** Schema of {@link Issue}. */
export const issueSchema = z.object({
  /**
   * Location: a member such as `operations[3].baseVersion`, the name of a query parameter or header, or empty for the
   * whole body.
   */
  path: z.string(),
  /** Violated rule, as a phrase whose subject is the path. */
  message: z.string(),
});

/** One problem of a request. */
export type Issue = z.infer<typeof issueSchema>;

/** Schema of {@link QuotaUsage}. */
export const quotaUsageSchema = z.object({
  /** Records that are no tombstones. */
  records: countSchema,
  /** Records that are tombstones. */
  tombstones: countSchema,
  /** Bytes of ciphertext, tombstones included. */
  bytes: countSchema,
});

/** What a vault holds, as far as quotas limit it. */
export type QuotaUsage = z.infer<typeof quotaUsageSchema>;

/** Schema of {@link Quota}. */
export const quotaSchema = z.object({
  /** Records that are no tombstones; null if they are not limited. */
  records: countSchema.nullable(),
  /** Bytes of ciphertext; null if they are not limited. */
  bytes: countSchema.nullable(),
});

/** The quotas of a vault. */
export type Quota = z.infer<typeof quotaSchema>;

/** Schema of {@link Failure}. It accepts codes that it does not know: treat them by the status of the response. */
export const failureSchema = z.object({
  /** A sentence for people. Its wording can change. */
  error: z.string(),
  /** Identifies the kind of failure for programs. */
  // The type is wider than the codes, but editors still complete them.
  code: z.string() as z.ZodType<FailureCode | (string & {}), string>,
  /** The request's id in the server's log. */
  requestId: z.string(),
  /** Page that documents the code, if the server is set to name one. */
  docs: z.string().optional(),
  /** Each problem of the request, at most 20; only with `invalid_request`. */
  issues: z.array(issueSchema).optional(),
  /** Why the server is not ready; only from `/readyz`. */
  reasons: z.array(z.string()).optional(),
  /** What the vault holds; only with `quota_exceeded`. */
  usage: quotaUsageSchema.optional(),
  /** What a vault may hold; only with `quota_exceeded`. */
  quota: quotaSchema.optional(),
  /** Indexes of the operations that would make the vault hold more; only with `quota_exceeded`. */
  operations: z.array(countSchema).optional(),
});

/** Response to any failed request, except a push with conflicts. */
export type Failure = z.infer<typeof failureSchema>;
