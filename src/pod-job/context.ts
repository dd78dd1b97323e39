import type { Clock } from '../common/clock.ts'
import type { KubeApi } from '../kube/api.ts'
import type { RuntimeLog } from '../kube/log.ts'

/** What the work of one pod needs. */
export interface JobContext {
  readonly api: KubeApi
  readonly namespace: string
  readonly database: string
  /** Name of the Job that the pod belongs to. */
  readonly job: string
  readonly pod: string
  readonly clock: Clock
  readonly log: RuntimeLog
  /** Aborted by SIGTERM: the pod is evicted, or the deadline is over. */
  readonly signal: AbortSignal
  /** Resolves when the database answers, or when it did not for so long that the work may as well say so. */
  readonly databaseAnswers: () => Promise<void>
  /** Runs `kvidx job ARGS`. */
  readonly runJob: RunJob
}

/** What `kvidx job` came to. `result` is its last result line, if it wrote one. */
export interface JobEnd {
  readonly exitCode: number
  readonly result?: string
  /** The end of what it logged, for a failure without a result. */
  readonly log: string
}

/** @param onLine called for each JSON line on standard output while it runs */
export type RunJob = (args: readonly string[], onLine: (line: string) => void, signal: AbortSignal) => Promise<JobEnd>

/** Exit codes of the pod: Kubernetes tries again after `failed`, and not after `pointless`. */
export const JOB_EXIT = { done: 0, failed: 1, pointless: 2 } as const
export type JobExit = (typeof JOB_EXIT)[keyof typeof JOB_EXIT]
