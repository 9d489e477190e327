// Parts of the schemas of queries.
//
// Values are strings, as `URLSearchParams` and web frameworks have them. Frameworks make an array of a parameter that
// is given twice; the schemas refuse it, like the server.

import * as z from "zod";

/** Maximum length of the value of a parameter, in bytes of UTF-8. */
export const PARAMETER_BYTES_MAX = 256;

/** Parameter that may be absent, and counts as absent if it is empty. */
export function parameterSchema<T>(schema: z.ZodType<T, string>) {
  return z
    .string()
    .transform((text) => (text === "" ? undefined : text))
    .pipe(schema.optional())
    .optional();
}

/** Parameter that is `true` or `false`, and counts as false if it is absent or empty. */
export function switchParameterSchema() {
  return z
    .enum(["true", "false", ""], "must be true or false")
    .optional()
    .transform((text) => text === "true");
}

/** Parameter that is a time. All valid characters are single bytes. */
export function timeParameterSchema(schema: z.ZodString) {
  const rule = `must be at most ${PARAMETER_BYTES_MAX} bytes long`;
  return schema.refine((text) => text.length <= PARAMETER_BYTES_MAX, rule);
}

/** Parameter that is a whole number, in digits only. */
export function numberParameterSchema(min: number, max: number) {
  const rule = `must be a whole number from ${min} to ${max}`;
  return z
    .string()
    .refine((text) => text.length <= PARAMETER_BYTES_MAX && /^\d+$/.test(text), { error: rule, abort: true })
    .transform(Number)
    .pipe(z.int(rule).min(min, rule).max(max, rule));
}
