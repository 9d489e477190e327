// Events.

import * as z from "zod";

import { PARAMETER_BYTES_MAX, parameterSchema } from "./query.js";
import { timestampSchema, vaultNameSchema } from "./scalars.js";

function areVaultNames(names: string): boolean {
  if (names.length > PARAMETER_BYTES_MAX) return false;
  return names.split(",").every((name) => vaultNameSchema.safeParse(name).success);
}

/** Schema of {@link EventsQuery}. It takes a string, and returns the names. */
export const eventsQuerySchema = z.object({
  /** Names of further vaults to follow, with commas between them. */
  vaults: parameterSchema(
    z
      .string()
      .refine(areVaultNames, "must be names of vaults with commas between them")
      .transform((names) => names.split(",")),
  ),
});

/** Query of `GET /api/sync/events`, as it is read. */
export type EventsQuery = z.infer<typeof eventsQuerySchema>;

/** Schema of {@link EventData}. */
export const eventDataSchema = z.object({
  /** The vault's head after a push that wrote something. It is no cursor: pull with the stored one. */
  head: timestampSchema,
  /** The vault's epoch. Servers before 0.3 do not name it. */
  epoch: z.string().optional(),
  /** The vault that has changed, null for the default one; only in a stream that follows several vaults. */
  vault: z.string().nullable().optional(),
});

/** Data of an event named `head`, as JSON. */
export type EventData = z.infer<typeof eventDataSchema>;
