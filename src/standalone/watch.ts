import type { Clock } from '../common/clock.ts'

/** The part of a sidecar's `/status` that people are shown. */
export interface SidecarStatus {
  readonly state: string
  readonly ready: boolean
  /** Which process answers. */
  readonly pid?: number
  readonly lifecycle?: string
  readonly lineage?: string
  readonly engineVersion?: string
  readonly health?: { readonly causes: readonly { readonly reason: string; readonly message: string }[] }
  readonly failure?: { readonly code: string; readonly message: string }
  readonly backup?: {
    readonly continuous?: { readonly state: string; readonly failing?: { readonly message: string } }
  }
  readonly data?: { readonly position: string; readonly count: string; readonly dataBytes: string }
}

const INTERVAL = 500

/** Reads `/status` until the signal ends it; `onStatus` gets every answer, undefined while there is none. */
export async function watchStatus(
  address: string,
  clock: Clock,
  signal: AbortSignal,
  onStatus: (status: SidecarStatus | undefined) => void,
): Promise<void> {
  while (!signal.aborted) {
    let status: SidecarStatus | undefined
    try {
      const answer = await fetch(`${address}/status`, { signal: AbortSignal.any([signal, AbortSignal.timeout(2000)]) })
      status = (await answer.json()) as SidecarStatus
    } catch {
      // not there yet, or restarting
    }
    if (!signal.aborted) onStatus(status)
    await clock.sleep(INTERVAL, signal).catch(() => {})
  }
}

/** One line that a person can read: what it is doing and, when something is wrong, what. */
export function describe(status: SidecarStatus | undefined): string {
  if (!status) return 'starting'
  if (status.failure) return `not ready: ${status.failure.message}`
  if (!status.ready)
    // an open database has its data port a moment later
    return status.lifecycle === 'opening' || status.lifecycle === 'ready'
      ? 'opening'
      : `not ready (${status.lifecycle ?? status.state})`
  const causes = status.health?.causes ?? []
  const trouble =
    causes.length > 0
      ? `, ${status.state}: ${causes.map(cause => `${cause.reason} (${cause.message})`).join('; ')}`
      : ''
  const { state, failing } = status.backup?.continuous ?? {}
  const unshipped =
    state === 'Failing' || state === 'HistoryConflict'
      ? `, continuous backup ${state}${failing ? `: ${failing.message}` : ''}`
      : ''
  return `ready, ${status.engineVersion ?? ''}${trouble}${unshipped}`
}
