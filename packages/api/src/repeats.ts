// The rule that a request names no record twice.

import type * as z from "zod";

/** Place where a request names a record. */
interface NamedRecord {
  readonly path: readonly (string | number)[];
  readonly id: unknown;
}

/** What `superRefine` passes on. */
type Context = z.core.$RefinementCtx<unknown>;

/** When to check for repeats: also if there are other issues, because the server reports all issues at once. */
export const whenObject = {
  when: ({ value }: z.core.ParsePayload) => typeof value === "object" && value !== null,
};

/**
 * Adds an issue for each record that is named before. Like the server, it disregards elements that have issues of
 * their own: `path` begins with the array and the index of the element.
 */
export function rejectRepeats(records: Iterable<NamedRecord>, context: Context): void {
  const invalid = new Set(context.issues.map((issue) => elementOf(issue.path ?? [])));
  const first = new Map<unknown, string>();
  for (const { path, id } of records) {
    const element = elementOf(path);
    if (invalid.has(element)) continue;
    const before = first.get(id);
    if (before === undefined) {
      first.set(id, element);
    } else {
      context.addIssue({ code: "custom", path: [...path], message: `must not repeat the record of ${before}` });
    }
  }
}

/** The element that a path leads into, such as `operations[3]`. */
function elementOf([array, index]: readonly PropertyKey[]): string {
  return `${String(array)}[${String(index)}]`;
}
