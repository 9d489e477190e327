// Streamed pulls: everything after a cursor, one JSON object a line.

import * as z from "zod";

import { pullQuerySchema } from "./pull.js";
import { historyShape, recordSchema } from "./records.js";
import { timestampSchema } from "./scalars.js";

const absentSchema = z.never("must not be sent with Accept: application/x-ndjson").optional();

/** Schema of {@link StreamQuery}. It takes strings. */
export const streamQuerySchema = pullQuerySchema.extend({
  /** A stream has no pages. */
  limit: absentSchema,
  /** A stream does not wait. */
  wait: absentSchema,
});

/** Query of `GET /api/sync/pull` with `Accept: application/x-ndjson`, as it is read. */
export type StreamQuery = z.infer<typeof streamQuerySchema>;

/** Schema of {@link StreamStart}. */
export const streamStartSchema = z.object(historyShape);

/** First line of a streamed pull. No record of the stream is later than its `head`. */
export type StreamStart = z.infer<typeof streamStartSchema>;

/** Schema of {@link StreamEnd}. */
export const streamEndSchema = z.object({
  /** The `updated_at` of the last record; null if there is none, and the client keeps its cursor. */
  nextCursor: timestampSchema.nullable(),
  /** Whether the vault has changed since the stream began. */
  hasMore: z.boolean(),
});

/** Last line of a streamed pull. A stream without it is not complete. */
export type StreamEnd = z.infer<typeof streamEndSchema>;

/** Schema of {@link StreamLine}. */
export const streamLineSchema = z.union([recordSchema, streamEndSchema]);

/** Line of a streamed pull after the first: a record, or the end. `"hasMore" in line` tells them apart. */
export type StreamLine = z.infer<typeof streamLineSchema>;
