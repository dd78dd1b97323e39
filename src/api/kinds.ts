import type { KindDefinition } from './kind.ts'
import { KVIDX_BACKUP } from './v1alpha1/kvidx-backup.ts'
import { KVIDX_DATABASE } from './v1alpha1/kvidx-database.ts'
import { KVIDX_RESTORE } from './v1alpha1/kvidx-restore.ts'

/** Every kind of the API group. */
export const KINDS: readonly KindDefinition[] = [KVIDX_DATABASE, KVIDX_BACKUP, KVIDX_RESTORE]
