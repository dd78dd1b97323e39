import type { EngineKind, EngineTuning } from '../engine/engine.ts'
import type { CommitLimits } from './committer.ts'

/** What a database needs to know to open; made from the sidecar's configuration document. Sizes in bytes, times in ms. */
export interface DatabaseConfig {
  readonly namespace: string
  readonly name: string
  readonly engine: EngineKind
  /** Root of the volume. */
  readonly dataDirectory: string
  /** Name of the node, for the lock's holder. */
  readonly node: string
  readonly tuning: EngineTuning
  /** The lineage that the resource's status names. */
  readonly lineage?: string
  /** `bootstrap.adopt` */
  readonly adopt?: string
  /** Lineage whose volume this one is a copy of, made from a VolumeSnapshot. */
  readonly clone?: string
  /** Says where the first data comes from, when bootstrap asks for some. */
  readonly bootstrap?: string
  readonly limits: CommitLimits
  /** Bytes of frames kept while consumers need them, and for followers alone. */
  readonly changeLog: { readonly maxBytes: number; readonly idleBytes: number }
  readonly recovery: {
    readonly onCorruption: 'Stop' | 'RestoreLatest' | 'Salvage'
    readonly fullCheck: 'Background' | 'Always'
    readonly allowEmpty?: string
    /** How long expired records of an adopted volume are left alone. */
    readonly adoptGrace: number
  }
  /** How long to wait for a lock that another process holds before the start fails; 0: for ever. */
  readonly lockTimeout: number
}

const MIB = 1024 * 1024

/** For tests and tools: the defaults of the design. */
export function databaseConfig(
  given: Pick<DatabaseConfig, 'name' | 'engine' | 'dataDirectory'> & Partial<DatabaseConfig>,
): DatabaseConfig {
  return {
    namespace: 'default',
    node: 'localhost',
    tuning: { syncMode: 'Full' },
    limits: { maxDataBytes: 64 * MIB, atomicBytes: 64 * MIB, atomicRecords: 100_000 },
    changeLog: { maxBytes: 1024 * MIB, idleBytes: 64 * MIB },
    recovery: { onCorruption: 'Stop', fullCheck: 'Background', adoptGrace: 24 * 3600_000 },
    lockTimeout: 0,
    ...given,
  }
}
