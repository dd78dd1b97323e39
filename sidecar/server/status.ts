import type { Database } from '../database/database.ts'
import { formatDigest } from '../database/digest.ts'
import { formatPosition } from '../database/position.ts'
import type { EngineFigures } from '../engine/engine.ts'
import type { CertificateValidity } from './certificate-validity.ts'

export interface StatusInput {
  readonly database: Database | undefined
  readonly figures: EngineFigures | undefined
  /** Unix ms */
  readonly started: number
  /** Why clients are not served; undefined: they are. */
  readonly unready: string | undefined
  readonly certificate: CertificateValidity | undefined
  readonly further: Readonly<Record<string, unknown>>
}

/** The document of `/status`: no records, no changes. u64 become decimal strings when it is written. */
export function statusDocument(input: StatusInput): Record<string, unknown> {
  const { database, figures, started, unready, certificate, further } = input
  if (!database) return { state: 'Starting', ready: false, started, message: unready, ...further }
  const { state } = database
  return {
    state: database.health.state,
    ready: unready === undefined,
    ...(unready !== undefined && { message: unready }),
    started,
    engine: database.engine,
    engineVersion: database.engineVersion,
    lineage: database.lineage,
    epochs: database.epochs,
    health: database.health,
    data: {
      position: formatPosition(state.position),
      time: state.time,
      count: state.count,
      dataBytes: state.dataBytes,
      digest: formatDigest(state.digest),
      expiring: state.expiring,
      log: { base: formatPosition(state.logBase), bytes: state.logBytes },
    },
    storage: figures ?? null,
    tasks: database.tasks,
    ...(certificate && {
      certificate: {
        subject: certificate.subject,
        notBefore: new Date(certificate.notBefore).toISOString(),
        notAfter: new Date(certificate.notAfter).toISOString(),
      },
    }),
    ...further,
  }
}
