import { Command } from 'commander'
import { environment } from '../common/environment.ts'
import type { SidecarFlags } from './sidecar-flags.ts'
import { SECOND_SIGNAL, waitForSignal } from './signals.ts'
import { OURS_ALONE } from './umask.ts'
import { unknownVariables } from './unknown-variables.ts'

/** `kvidx sidecar`: the engine process of one database. Flags win over variables, variables over the file. */
export function sidecarCommand(): Command {
  return new Command('sidecar')
    .description('run the engine of one database: data API, operations API, maintenance, backups')
    .option('--config <file>', 'configuration document (JSON); default $KVIDX_CONFIG')
    .option('--data-dir <dir>', 'directory of the volume; default $KVIDX_DATA_DIR, else /data')
    .option('--host <address>', 'address of the data port; default $KVIDX_HOST, else 127.0.0.1')
    .option('--data-port <port>', 'port of the data API, 0: any free one; default $KVIDX_DATA_PORT, else 7400')
    .option('--ops-host <address>', 'address of the operations port; default: as --host')
    .option('--ops-port <port>', 'port of health, metrics and status; default $KVIDX_OPS_PORT, else 8080')
    .option('--socket <path>', 'Unix socket for local applications; default $KVIDX_SOCKET')
    .option('--token-dir <dir>', 'directory with the files read, write and admin; default $KVIDX_TOKEN_DIR')
    .option('--tls-dir <dir>', 'directory with tls.crt and tls.key')
    .option(
      '--engine <engine>',
      'SQLite, LMDB or RocksDB; default $KVIDX_ENGINE, else what the configuration document says, else SQLite',
    )
    .option('--name <name>', 'name of the database; default $KVIDX_DATABASE, else as the document says, else main')
    .action(async (flags: SidecarFlags) => {
      // from here on, not from when it runs: to process 1 of a container a signal that nobody waits for does not come at all
      const asked = waitForSignal()
      // and a parent that dies while this process starts is gone without a trace afterwards
      const orphaned = parentGone()
      process.umask(OURS_ALONE)
      for (const line of unknownVariables()) process.stderr.write(line)
      const { startSidecar } = await import('../../sidecar/main.ts')
      const { sidecarOptions } = await import('./sidecar-options.ts')
      const sidecar = await startSidecar(await sidecarOptions(flags, environment))
      sidecar.serving.catch(() => {})
      const end = await Promise.race([asked, orphaned, sidecar.died])
      // whoever started us starts us again, and the start recovers
      if (end instanceof Error) process.exit(1)
      // a second signal does not wait
      void waitForSignal(SECOND_SIGNAL).then(() => process.exit(130))
      await sidecar.stop()
      process.exit(0)
    })
}

/** `kvidx run` holds an IPC channel to us, which closes when it dies, however it dies. */
function parentGone(): Promise<void> {
  return new Promise(resolve => {
    if (!process.connected) return
    process.once('disconnect', () => resolve())
    // a start that fails must end the process, which a channel that is listened to keeps alive
    process.channel?.unref()
  })
}
