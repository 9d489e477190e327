// The OpenAPI document, and the schemas of the package by the names that the document gives them.

import { readFileSync } from "node:fs";
import * as api from "@vaultsync/api";
import * as z from "zod";

/** The part of JSON Schema that the document and Zod use. */
export interface JsonSchema {
  $ref?: string;
  allOf?: JsonSchema[];
  anyOf?: JsonSchema[];
  oneOf?: JsonSchema[];
  type?: string | string[];
  const?: unknown;
  enum?: string[];
  items?: JsonSchema;
  properties?: Record<string, JsonSchema>;
  required?: string[];
  [keyword: string]: unknown;
}

interface Operation {
  operationId: string;
  parameters?: { name: string; in: string; required: boolean; schema: JsonSchema }[];
  responses: Record<string, { content?: Record<string, { schema: JsonSchema }> }>;
}

export interface Document {
  paths: Record<string, Record<string, Operation>>;
  components: { schemas: Record<string, JsonSchema> };
}

export function readDocument(file: string): Document {
  return JSON.parse(readFileSync(file, "utf8"));
}

export function operations(document: Document): Operation[] {
  return Object.values(document.paths).flatMap((methods) => Object.values(methods));
}

export function resolve(document: Document, schema: JsonSchema): JsonSchema {
  const name = componentOf(schema);
  return name === undefined ? schema : (document.components.schemas[name] ?? schema);
}

/** The component that a schema refers to. */
export function componentOf(schema: JsonSchema): string | undefined {
  return (schema.$ref ?? schema.allOf?.[0]?.$ref)?.split("/").at(-1);
}

/** The package's schema of a component: `pageSchema` of `Page`, or what a function of that name returns by default. */
export function schemaOf(component: string): z.ZodType | undefined {
  const name = `${component.charAt(0).toLowerCase()}${component.slice(1)}Schema`;
  const exported: unknown = Object.entries(api).find(([key]) => key === name)?.[1];
  const schema: unknown = typeof exported === "function" ? exported() : exported;
  return schema instanceof z.ZodType ? schema : undefined;
}
