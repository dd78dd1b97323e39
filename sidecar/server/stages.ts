/** When a call passed from one stage to the next, monotonic ms. */
export interface Moments {
  readonly started: number
  /** Handed to the writer, and back with an outcome; `commit`: what its group took in the writer's thread, ms. */
  write?: { readonly at: number; ended: number; commit: number }
  /** The answer was ready to be sent. */
  answered?: number
}

/**
 * Where the time of one call went, whole ms:
 * `request` its body and its checks, `queue` the way to the writer and the commits before it, `commit` changes, log and disk of its group, `engine` the work of
 * a call that changes nothing, `answer` what was sent.
 */
export type Stages = Partial<Record<'request' | 'queue' | 'commit' | 'engine' | 'answer', number>>

/** Pure. */
export function stagesOf({ started, write, answered }: Moments, ended: number): Stages {
  const ready = answered ?? ended
  if (!write) return rounded({ engine: ready - started, answer: ended - ready })
  // a client that is gone is not waited for
  const left = write.ended === 0 ? ended : write.ended
  return rounded({
    request: write.at - started,
    queue: Math.max(0, left - write.at - write.commit),
    commit: write.commit,
    answer: ended - left,
  })
}

/** The name of the longest. */
export function slowest(stages: Stages): string {
  return Object.entries(stages).reduce((most, one) => (one[1] > most[1] ? one : most))[0]
}

function rounded(stages: Stages): Stages {
  return Object.fromEntries(Object.entries(stages).map(([name, ms]) => [name, Math.round(ms)]))
}
