import type { DynamicConfig } from '../../src/api/v1alpha1/sidecar-config.ts'

/** The settings in force; they change while the process runs. */
export interface LiveSettings {
  readonly dynamic: DynamicConfig
  onChange(listener: () => void): () => void
}
