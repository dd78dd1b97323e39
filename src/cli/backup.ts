import { Command } from 'commander'
import { backupCreateCommand } from './backup-create.ts'
import { backupListCommand, backupShowCommand } from './backup-list.ts'
import { backupPruneCommand } from './backup-prune.ts'
import { backupDrillCommand, backupRestoreCommand } from './backup-restore.ts'
import { backupSyncCommand } from './backup-sync.ts'
import { backupVerifyCommand } from './backup-verify.ts'
import type { Io } from './io.ts'

/** `kvidx backup`: backups of a running database, or of a store alone. */
export function backupCommand(io: Io): Command {
  return new Command('backup')
    .description('make, list, verify, restore and prune backups')
    .addCommand(backupCreateCommand(io))
    .addCommand(backupListCommand(io))
    .addCommand(backupShowCommand(io))
    .addCommand(backupVerifyCommand(io))
    .addCommand(backupRestoreCommand(io))
    .addCommand(backupPruneCommand(io))
    .addCommand(backupDrillCommand(io))
    .addCommand(backupSyncCommand(io))
}
