import type { X509Certificate } from 'node:crypto'
import type { HealthBoard } from '../database/health.ts'

/** Of the certificate that is served: the first one of its file, not those of the authorities behind it. */
export interface CertificateValidity {
  readonly subject: string
  /** Unix ms */
  readonly notBefore: number
  /** Unix ms */
  readonly notAfter: number
}

const REASONS = ['CertificateExpired', 'CertificateNotYetValid'] as const

export function validityOf({ subject, validFromDate, validToDate }: X509Certificate): CertificateValidity {
  // one with alternative names alone has no subject
  const name = (subject ?? '').replaceAll('\n', ', ')
  return { subject: name, notBefore: validFromDate.getTime(), notAfter: validToDate.getTime() }
}

/** Says on the health board that clients refuse the certificate. It is served all the same: to refuse it would take the database from those, too, who do not look. */
export function showValidity(board: HealthBoard, validity: CertificateValidity, now: number): void {
  const found = trouble(validity, now)
  for (const reason of REASONS) {
    if (found?.reason === reason) board.raise(reason, found.message, now)
    else board.clear(reason)
  }
}

function trouble({ subject, notBefore, notAfter }: CertificateValidity, now: number) {
  const certificate = `the TLS certificate of the data port (${subject || 'without a subject'})`
  const end = 'it is served, and clients that look at it refuse it'
  if (now > notAfter)
    return {
      reason: 'CertificateExpired',
      message: `${certificate} expired at ${new Date(notAfter).toISOString()}; ${end}`,
    }
  if (now < notBefore)
    return {
      reason: 'CertificateNotYetValid',
      message: `${certificate} is valid from ${new Date(notBefore).toISOString()} on; ${end}`,
    }
  return undefined
}
