// Events.

import * as z from "zod";

import { timestampSchema } from "./scalars.js";

/** Schema of {@link EventData}. */
export const eventDataSchema = z.object({
  /** The vault's head after a push that wrote something. It is no cursor: pull with the stored one. */
  head: timestampSchema,
  /** The vault's epoch. Servers before 0.3 do not name it. */
  epoch: z.string().optional(),
});

/** Data of an event named `head`, as JSON. */
export type EventData = z.infer<typeof eventDataSchema>;
