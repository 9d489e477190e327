// Pulls: requests for changes, by query and by body, and pages of changes.

import * as z from "zod";

import { numberParameterSchema, parameterSchema, timeParameterSchema } from "./query.js";
import { historyShape, recordSchema } from "./records.js";
import { cursorSchema, epochSchema, timestampSchema } from "./scalars.js";

/** Maximum number of records in one page, and the default. */
export const PAGE_RECORDS_MAX = 100;

/** Maximum time that a pull waits for a change, in seconds. */
export const WAIT_SECONDS_MAX = 55;

/** Schema of {@link PullRequest}. */
export const pullRequestSchema = z.object({
  /** Returns only records with a later `updated_at`. Without a cursor the page begins at the start. */
  cursor: cursorSchema.nullish(),
  /** The maximum number of records in the page; {@link PAGE_RECORDS_MAX} by default. */
  limit: z.int().min(1).max(PAGE_RECORDS_MAX).optional(),
  /** Seconds to wait for a change if the page is empty. */
  wait: z.int().min(0).max(WAIT_SECONDS_MAX).optional(),
  /** The `epoch` of an earlier response. The server returns 410 if the vault's history has another epoch. */
  epoch: epochSchema.nullish(),
  /** The time up to which the client knows every deletion. */
  since: cursorSchema.nullish(),
});

/** Body of `POST /api/sync/pull`. */
export type PullRequest = z.infer<typeof pullRequestSchema>;

/** Schema of {@link PullQuery}. It takes strings, and returns numbers where a parameter is one. */
export const pullQuerySchema = z.object({
  /** Returns only records with a later `updated_at`. Without a cursor the page begins at the start. */
  cursor: parameterSchema(timeParameterSchema(cursorSchema)),
  /** The maximum number of records in the page; {@link PAGE_RECORDS_MAX} by default. */
  limit: numberParameterSchema(1, PAGE_RECORDS_MAX).optional(),
  /** Seconds to wait for a change if the page is empty. */
  wait: numberParameterSchema(0, WAIT_SECONDS_MAX).optional(),
  /** The `epoch` of an earlier response. The server returns 410 if the vault's history has another epoch. */
  epoch: parameterSchema(epochSchema),
  /** The time up to which the client knows every deletion. */
  since: parameterSchema(timeParameterSchema(cursorSchema)),
});

/** Query of `GET /api/sync/pull`, as it is read. */
export type PullQuery = z.infer<typeof pullQuerySchema>;

/** Schema of {@link Page}. */
export const pageSchema = z.object({
  /** Current state of the changed records, tombstones included, ordered by `updated_at`. */
  records: z.array(recordSchema),
  /** The `updated_at` of the last record. Null if the page is empty; the client then keeps its cursor. */
  nextCursor: timestampSchema.nullable(),
  /** Whether there are records later than the last one of this page. */
  hasMore: z.boolean(),
  ...historyShape,
});

/** One page of changes, oldest first. */
export type Page = z.infer<typeof pageSchema>;
