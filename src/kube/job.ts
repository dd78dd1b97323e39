import type { KubeObject, StatusCondition } from './object.ts'

export interface Job extends KubeObject {
  readonly spec?: { readonly backoffLimit?: number }
  readonly status?: {
    readonly active?: number
    readonly failed?: number
    readonly succeeded?: number
    readonly startTime?: string
    readonly completionTime?: string
    readonly conditions?: readonly StatusCondition[]
  }
}
