import { applyDefaults } from '../defaults.ts'
import { databaseSpec, type KvidxDatabaseSpec, type ResolvedDatabaseSpec } from './database-spec.ts'
import { ENGINE_DEFAULTS } from './tuning.ts'

/**
 * The spec with every default: those of the schema, and those that depend on other fields (tuning by engine, `verify` by type of
 * backup), which the API server cannot fill in. Pure.
 */
export function withDefaults(spec: KvidxDatabaseSpec): ResolvedDatabaseSpec {
  const resolved = applyDefaults(databaseSpec, spec)
  const { backup } = resolved
  return {
    ...resolved,
    tuning: { ...ENGINE_DEFAULTS[resolved.engine], ...resolved.tuning },
    ...(backup && {
      backup: {
        ...backup,
        schedules: backup.schedules.map(schedule => ({
          ...schedule,
          verify: schedule.verify ?? schedule.type === 'Full',
        })),
      },
    }),
  }
}
