import { readFile } from 'node:fs/promises'
import {
  type DocumentOptions,
  isMap,
  isNode,
  isPair,
  LineCounter,
  type Node,
  type ParsedNode,
  type ParseOptions,
  parseAllDocuments,
  type SchemaOptions,
  type Tags,
} from 'yaml'
import type { Problem } from '../common/check.ts'
import { KvidxError } from '../common/errors.ts'
import { suggest } from '../common/suggest.ts'
import { KINDS } from './kinds.ts'
import type { KvidxBackup } from './v1alpha1/kvidx-backup.ts'
import { kvidxBackupSchema } from './v1alpha1/kvidx-backup.ts'
import type { KvidxDatabase } from './v1alpha1/kvidx-database.ts'
import { kvidxDatabaseSchema } from './v1alpha1/kvidx-database.ts'
import type { KvidxRestore } from './v1alpha1/kvidx-restore.ts'
import { kvidxRestoreSchema } from './v1alpha1/kvidx-restore.ts'
import { validate } from './validate.ts'

export type KvidxObject = KvidxDatabase | KvidxBackup | KvidxRestore

/** One object of a manifest, valid by the same rules as in the API server; defaults are not filled in. */
export interface ManifestObject {
  readonly file: string
  /** Line on which its document begins, from 1. */
  readonly line: number
  readonly object: KvidxObject
}

/** A document of another API group: a Secret, a Namespace. Left to whoever knows it. */
export interface ForeignObject {
  readonly file: string
  readonly line: number
  readonly apiVersion: string
  readonly kind: string
  readonly value: Readonly<Record<string, unknown>>
}

export interface Manifest {
  readonly objects: readonly ManifestObject[]
  readonly others: readonly ForeignObject[]
}

/** One mistake with its place. */
export interface ManifestProblem {
  readonly file: string
  /** From 1. */
  readonly line: number
  readonly column: number
  /** Path in the object: `spec.storage.size`. */
  readonly field: string
  readonly message: string
}

/** A manifest is written by people; what is larger is not one. */
const LARGEST_MANIFEST = 4 * 1024 * 1024
const MOST_DOCUMENTS = 1000

/**
 * YAML 1.1 as kubectl reads it, so that one file means the same here and there: a bare `Off` is a boolean, a time is text.
 */
const AS_KUBERNETES = {
  version: '1.1' as const,
  customTags: (tags: Tags): Tags =>
    tags.filter(
      tag => typeof tag === 'string' || (!/:(timestamp|binary|omap|pairs|set)$/.test(tag.tag) && tag.format !== 'TIME'),
    ),
} satisfies ParseOptions & DocumentOptions & SchemaOptions

const SCHEMAS = {
  KvidxDatabase: kvidxDatabaseSchema,
  KvidxBackup: kvidxBackupSchema,
  KvidxRestore: kvidxRestoreSchema,
} as const

/** Reads files of one or more YAML documents. Throws KvidxError invalid_manifest naming file, line, field and what is allowed. */
export async function readManifests(files: readonly string[]): Promise<Manifest> {
  const parts: { readonly file: string; readonly text: string }[] = []
  for (const file of files) {
    try {
      parts.push({ file, text: await readFile(file, 'utf8') })
    } catch (cause) {
      const { code } = cause as NodeJS.ErrnoException
      const why =
        code === 'ENOENT' ? 'there is no such file' : code === 'EISDIR' ? 'it is a directory' : (cause as Error).message
      throw new KvidxError('invalid_manifest', `${file} cannot be read: ${why}`, { file }, cause)
    }
  }
  return parseManifests(parts)
}

/** As readManifests, of texts. Pure. */
export function parseManifests(parts: readonly { readonly file: string; readonly text: string }[]): Manifest {
  const problems: ManifestProblem[] = []
  const objects: ManifestObject[] = []
  const others: ForeignObject[] = []
  for (const { file, text } of parts) {
    const found: ManifestProblem[] = []
    parseFile(file, text, found, objects, others)
    // people mend a file from its top
    problems.push(...found.sort((a, b) => a.line - b.line))
  }
  findDuplicates(objects, problems)
  if (problems.length > 0) throw manifestError(problems)
  if (objects.length === 0) {
    const names = parts.map(({ file }) => file).join(', ')
    throw new KvidxError(
      'invalid_manifest',
      `${names}: no object of ${KINDS[0]?.group} is in it (allowed: ${Object.keys(SCHEMAS).join(', ')})`,
    )
  }
  return { objects, others }
}

function parseFile(
  file: string,
  text: string,
  problems: ManifestProblem[],
  objects: ManifestObject[],
  others: ForeignObject[],
): void {
  if (text.length > LARGEST_MANIFEST) {
    problems.push({
      file,
      line: 1,
      column: 1,
      field: '',
      message: `the file has ${text.length} characters; at most ${LARGEST_MANIFEST} are allowed`,
    })
    return
  }
  const lines = new LineCounter()
  const documents = parseAllDocuments(text, {
    lineCounter: lines,
    prettyErrors: false,
    uniqueKeys: true,
    ...AS_KUBERNETES,
  })
  if (!Array.isArray(documents)) return
  if (documents.length > MOST_DOCUMENTS) {
    problems.push({
      file,
      line: 1,
      column: 1,
      field: '',
      message: `the file has ${documents.length} documents; at most ${MOST_DOCUMENTS} are allowed`,
    })
    return
  }
  for (const document of documents) {
    const at = (offset: number) => {
      const { line, col } = lines.linePos(offset)
      return { line: Math.max(1, line), column: Math.max(1, col) }
    }
    for (const error of document.errors) problems.push({ file, ...at(error.pos[0]), field: '', message: error.message })
    if (document.errors.length > 0 || document.contents === null) continue
    const contents = document.contents as ParsedNode
    const start = at(contents.range[0])
    const problem = (message: string, field = ''): void => void problems.push({ file, ...start, field, message })
    let value: unknown
    try {
      // aliases are bounded: a short file must not become gigabytes
      value = document.toJS({ maxAliasCount: 100 })
    } catch (error) {
      problem((error as Error).message)
      continue
    }
    if (value === null) continue
    if (!isMap(contents) || typeof value !== 'object') {
      problem('a document must be an object with apiVersion, kind, metadata and spec')
      continue
    }
    const object = value as Readonly<Record<string, unknown>>
    const { apiVersion, kind } = object
    if (typeof apiVersion !== 'string' || typeof kind !== 'string') {
      problem('apiVersion and kind are required', apiVersion === undefined ? 'apiVersion' : 'kind')
      continue
    }
    if (!apiVersion.startsWith('kvidx.io/')) {
      others.push({ file, line: start.line, apiVersion, kind, value: object })
      continue
    }
    if (!Object.hasOwn(SCHEMAS, kind)) {
      const near = suggest(kind, Object.keys(SCHEMAS))
      const hint = near === undefined ? '' : `; did you mean '${near}'?`
      problem(`'${kind}' is not one of ${Object.keys(SCHEMAS).join(', ')}${hint}`, 'kind')
      continue
    }
    const found = validate(SCHEMAS[kind as keyof typeof SCHEMAS], object)
    for (const { field, message, path } of found) {
      problems.push({ file, ...at(offsetOf(contents, path)), field, message })
    }
    if (found.length === 0) objects.push({ file, line: start.line, object: object as unknown as KvidxObject })
  }
}

/** Where the field stands: its key, or the nearest one above it that is there. */
function offsetOf(root: ParsedNode, path: Problem['path']): number {
  let node: unknown = root
  let offset = root.range[0]
  for (const step of path) {
    if (isMap(node)) {
      const pair = node.items.find(
        item => isPair(item) && isNode(item.key) && String((item.key as { value?: unknown }).value) === String(step),
      )
      if (!pair) return offset
      offset = startOf(pair.key) ?? offset
      node = pair.value
    } else {
      node = (node as { items?: readonly unknown[] }).items?.[Number(step)]
      const start = startOf(node)
      if (start === undefined) return offset
      offset = start
    }
  }
  return offset
}

function startOf(node: unknown): number | undefined {
  return isNode(node) ? (node as Node).range?.[0] : undefined
}

function findDuplicates(objects: readonly ManifestObject[], problems: ManifestProblem[]): void {
  const seen = new Map<string, ManifestObject>()
  for (const entry of objects) {
    const { kind, metadata } = entry.object
    const key = `${kind} ${metadata.namespace ?? 'default'}/${metadata.name}`
    const before = seen.get(key)
    if (before) {
      problems.push({
        file: entry.file,
        line: entry.line,
        column: 1,
        field: 'metadata.name',
        message: `${key} is defined twice; first in ${before.file}, line ${before.line}`,
      })
    } else seen.set(key, entry)
  }
}

function manifestError(problems: readonly ManifestProblem[]): KvidxError {
  const shown = problems.slice(0, 20)
  const text = shown.map(
    ({ file, line, field, message }) => `${file}, line ${line}: ${field === '' ? '' : `${field}: `}${message}`,
  )
  if (problems.length > shown.length) text.push(`and ${problems.length - shown.length} more`)
  const [first] = problems
  return new KvidxError('invalid_manifest', text.join('\n'), {
    ...(first ? { file: first.file, line: first.line, field: first.field } : {}),
    problems: shown,
  })
}
