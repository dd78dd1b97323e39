import { randomUUID } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { KvidxError } from '../../src/common/errors.ts'
import type { EngineKind } from '../engine/engine.ts'
import { isNewVolume, type VolumeLayout, writeFileDurably } from './layout.ts'

/** To whom a volume belongs. */
export interface Identity {
  readonly formatVersion: 1
  readonly namespace: string
  readonly name: string
  /** The life of one database; a restore into a new database starts another. */
  readonly lineage: string
  readonly engine: EngineKind
  /** Unix ms */
  readonly created: number
  readonly bootstrappedFrom?: string
  /** When the volume was taken over from another database, Unix ms. */
  readonly adoptedAt?: number
  /** What the first data was: lineage, position, digest, files. */
  readonly origin?: Readonly<Record<string, unknown>>
}

export interface IdentityExpectation {
  readonly namespace: string
  readonly name: string
  readonly engine: EngineKind
  /** From the resource's status: a database that had data. */
  readonly lineage?: string
  /** `bootstrap.adopt`: take this volume whatever its name. */
  readonly adopt?: string
  /** The volume is a copy of the volume of this lineage: it begins a life of its own. */
  readonly clone?: string
  /** `recovery.allowEmpty`: the lineage whose loss is accepted. */
  readonly allowEmpty?: string
  /** Where the first data comes from, for the record. */
  readonly bootstrap?: string
}

export type VolumeVerdict =
  /** Nothing is there: a new database begins, in a new lineage. */
  | { readonly kind: 'new'; readonly identity: Identity }
  /** Ours. */
  | { readonly kind: 'known'; readonly identity: Identity }
  /** A retained volume of the same name, or one that was named in bootstrap.adopt. */
  | { readonly kind: 'adopted'; readonly identity: Identity }
  /** A copy of another database's volume: a new lineage that goes on where the copy was taken. */
  | { readonly kind: 'cloned'; readonly identity: Identity }

/**
 * Decides whether this volume may be opened as this database. Pure.
 * Errors: data_lost (new volume, known lineage), foreign_volume, volume_not_empty (bootstrap on data), conflict (another engine).
 */
export function judgeVolume(
  found: Identity | undefined,
  isNew: boolean,
  expected: IdentityExpectation,
  now: number,
): VolumeVerdict {
  const wanted = `${expected.namespace}/${expected.name}`
  if (!found) {
    if (expected.clone !== undefined)
      throw new KvidxError(
        'foreign_volume',
        `the volume of ${wanted} should be a copy of lineage ${expected.clone}, but has no identity.json`,
        { field: 'bootstrap.restore.backup' },
      )
    return judgeEmpty(isNew ? 'new' : 'without identity.json', expected.lineage, expected, now)
  }
  const owner = `${found.namespace}/${found.name}`
  if (found.engine !== expected.engine)
    throw new KvidxError(
      'conflict',
      `the volume holds a ${found.engine} database, spec.engine says ${expected.engine}`,
      {
        field: 'engine',
        allowed: found.engine,
      },
    )
  // once it has begun its own life its identity names what it was made from
  if (expected.clone === found.lineage && found.bootstrappedFrom !== expected.bootstrap)
    return {
      kind: 'cloned',
      identity: {
        formatVersion: 1,
        namespace: expected.namespace,
        name: expected.name,
        lineage: randomUUID(),
        engine: found.engine,
        created: now,
        ...(expected.bootstrap !== undefined && { bootstrappedFrom: expected.bootstrap }),
        origin: { namespace: found.namespace, database: found.name, lineage: found.lineage },
      },
    }
  if (owner !== wanted && expected.adopt !== found.lineage)
    throw new KvidxError(
      'foreign_volume',
      `the volume belongs to ${owner} (lineage ${found.lineage}), not to ${wanted}. To take it over: set spec.bootstrap.adopt: ${found.lineage}`,
      { field: 'bootstrap.adopt', lineage: found.lineage, owner },
    )
  if (
    expected.lineage !== undefined &&
    expected.lineage !== found.lineage &&
    expected.adopt !== found.lineage &&
    expected.allowEmpty !== expected.lineage
  )
    throw new KvidxError(
      'foreign_volume',
      `the volume holds lineage ${found.lineage}, the database's status says ${expected.lineage}. To take it over: set spec.bootstrap.adopt: ${found.lineage}`,
      { field: 'bootstrap.adopt', lineage: found.lineage, owner },
    )
  if (expected.bootstrap !== undefined && found.bootstrappedFrom !== expected.bootstrap)
    throw new KvidxError(
      'volume_not_empty',
      `bootstrap would fill a volume that has data already (lineage ${found.lineage}); remove spec.bootstrap, or restore in place`,
      {
        field: 'bootstrap',
        lineage: found.lineage,
      },
    )
  if (owner !== wanted)
    return {
      kind: 'adopted',
      identity: { ...found, namespace: expected.namespace, name: expected.name, adoptedAt: now },
    }
  return { kind: expected.lineage === undefined ? 'adopted' : 'known', identity: found }
}

/**
 * A volume without a database may become a new one, unless there was one. Pure. Errors: data_lost. @param state of the volume, for the message
 * @param lineage of the database that was there, if it is known
 */
export function judgeEmpty(
  state: string,
  lineage: string | undefined,
  expected: IdentityExpectation,
  now: number,
): VolumeVerdict & { readonly kind: 'new' } {
  const { namespace, name } = expected
  if (lineage !== undefined && expected.allowEmpty !== lineage)
    throw new KvidxError(
      'data_lost',
      `the volume of ${namespace}/${name} is ${state}, but the database had data (lineage ${lineage}). ` +
        `Accept that it is new: set spec.recovery.allowEmpty: ${lineage}; to restore it at the same time: spec.bootstrap.restore.source: { database: ${name}, lineage: ${lineage} }`,
      { field: 'recovery.allowEmpty', lineage },
    )
  return {
    kind: 'new',
    identity: {
      formatVersion: 1,
      namespace,
      name,
      lineage: randomUUID(),
      engine: expected.engine,
      created: now,
      ...(expected.bootstrap !== undefined && { bootstrappedFrom: expected.bootstrap }),
    },
  }
}

/** Errors: foreign_volume when there is data of others, engine_corrupt when identity.json cannot be read. */
export async function readIdentity(layout: VolumeLayout): Promise<{ identity: Identity | undefined; isNew: boolean }> {
  let text: string
  try {
    text = await readFile(layout.identity, 'utf8')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT')
      throw new KvidxError('engine_io', `${layout.identity} cannot be read: ${(error as Error).message}`, {}, error)
    return { identity: undefined, isNew: await isNewVolume(layout) }
  }
  let parsed: Partial<Identity>
  try {
    parsed = JSON.parse(text) as Partial<Identity>
  } catch (error) {
    throw new KvidxError('engine_corrupt', `${layout.identity} is not JSON`, {}, error)
  }
  if (typeof parsed !== 'object' || parsed === null)
    throw new KvidxError('engine_corrupt', `${layout.identity} holds no identity`)
  if (parsed.formatVersion !== 1)
    throw new KvidxError(
      'engine_corrupt',
      `${layout.identity}: formatVersion ${String(parsed.formatVersion)} is not known (allowed: 1)`,
    )
  for (const field of ['namespace', 'name', 'lineage', 'engine'] as const)
    if (typeof parsed[field] !== 'string')
      throw new KvidxError('engine_corrupt', `${layout.identity}: ${field} is missing`)
  return { identity: parsed as Identity, isNew: false }
}

export async function writeIdentity(layout: VolumeLayout, identity: Identity): Promise<void> {
  await writeFileDurably(layout.identity, `${JSON.stringify(identity, undefined, 2)}\n`)
}
