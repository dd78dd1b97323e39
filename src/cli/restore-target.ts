import { parsePosition } from '../../sidecar/database/position.ts'
import type { RestoreFrom } from '../../sidecar/restore/fill.ts'
import { parseTime } from '../../sidecar/server/parameters.ts'

/** `--at`: `latest`, a time (RFC 3339 or Unix ms), a position (EPOCH.SEQ), or the name of a backup. Errors: invalid_parameter. */
export function parseTarget(text: string | undefined): RestoreFrom {
  if (text === undefined || text === 'latest') return { kind: 'latest' }
  if (/^\d+\.\d+$/.test(text)) return { kind: 'position', position: parsePosition(text, '--at') }
  if (/^\d{11,}$/.test(text) || /^\d{4}-\d\d-\d\d[Tt]/.test(text))
    return { kind: 'time', time: parseTime(text, '--at') }
  return { kind: 'backup', name: text }
}

/** As query parameters of `POST /v1/admin/restore`. */
export function targetQuery(from: RestoreFrom): Record<string, string> {
  switch (from.kind) {
    case 'latest':
      return { latest: 'Change' }
    case 'latestBackup':
      return { latest: 'Backup' }
    case 'backup':
      return { backup: from.name }
    case 'position':
      return { position: `${from.position.epoch}.${from.position.seq}` }
    case 'time':
      return { time: String(from.time) }
  }
}
