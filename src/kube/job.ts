import type { KubeObject } from './object.ts'

export interface Job extends KubeObject {
  readonly spec?: { readonly backoffLimit?: number }
  readonly status?: {
    readonly active?: number
    readonly failed?: number
    readonly succeeded?: number
    readonly startTime?: string
    readonly completionTime?: string
    readonly conditions?: readonly {
      readonly type: string
      readonly status: string
      readonly reason?: string
      readonly message?: string
      readonly lastTransitionTime?: string
    }[]
  }
}
