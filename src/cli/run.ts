import { watchFile } from 'node:fs'
import { resolve } from 'node:path'
import { Command } from 'commander'
import { environment } from '../common/environment.ts'
import { KvidxError } from '../common/errors.ts'
import { portFlag } from './port-flag.ts'
import { SECOND_SIGNAL, waitForSignal } from './signals.ts'
import { unknownVariables } from './unknown-variables.ts'

interface RunFlags {
  readonly file: string[]
  readonly dataDir?: string
  readonly host?: string
  readonly dataPort?: string
  readonly opsPort?: string
  readonly tokenDir?: string
}

/** `kvidx run`: the databases of a manifest on this machine, without a cluster. */
export function runCommand(): Command {
  return new Command('run')
    .description('run every KvidxDatabase of a manifest on this machine; Ctrl-C stops them')
    .requiredOption('-f, --file <file...>', 'manifest (YAML), the same as for kubectl apply')
    .option('--data-dir <dir>', 'where data, logs and backups are kept; default $KVIDX_DATA_DIR, else ./.kvidx')
    .option(
      '--host <address>',
      'address to listen on; anything but loopback needs --token-dir; default $KVIDX_HOST, else 127.0.0.1',
    )
    .option(
      '--data-port <port>',
      'data API of the first database, the next ones follow; 0: any free ones; default $KVIDX_DATA_PORT, else 7400',
    )
    .option('--ops-port <port>', 'health, metrics and status of the first database; default $KVIDX_OPS_PORT, else 8080')
    .option('--token-dir <dir>', 'directory with the files read, write and admin; default $KVIDX_TOKEN_DIR')
    .action(async (flags: RunFlags) => {
      for (const line of unknownVariables()) process.stderr.write(line)
      const { readManifests } = await import('../api/manifest.ts')
      const { isLoopback } = await import('../../sidecar/server/config.ts')
      const { claimPorts } = await import('../standalone/ports.ts')
      const { runStandalone } = await import('../standalone/run.ts')
      const { systemClock } = await import('../common/clock.ts')
      const { objects } = await readManifests(flags.file)
      const databases = objects.map(entry => entry.object).filter(object => object.kind === 'KvidxDatabase')
      if (databases.length === 0)
        throw new KvidxError('invalid_manifest', `${flags.file.join(', ')}: no KvidxDatabase in it`, { field: 'kind' })
      const tokensDirectory = flags.tokenDir ?? environment.read('KVIDX_TOKEN_DIR')
      const host = flags.host ?? environment.read('KVIDX_HOST') ?? '127.0.0.1'
      if (tokensDirectory === undefined && !isLoopback(host))
        throw new KvidxError(
          'invalid_parameter',
          `--host: others reach ${host}, so it needs tokens: --token-dir names a directory with the files read, write and admin`,
          { field: '--host' },
        )
      const encrypted = databases.find(({ spec }) => spec.security?.tls)
      if (encrypted && !isLoopback(host))
        throw new KvidxError(
          'invalid_parameter',
          `${encrypted.metadata.name}: spec.security.tls: kvidx run speaks plain HTTP, also to ${host}; let a proxy on this machine end TLS, or use kvidx sidecar with --tls-dir`,
          { field: 'spec.security.tls' },
        )
      const first = {
        data: portFlag(flags.dataPort, '--data-port') ?? environment.read('KVIDX_DATA_PORT') ?? 7400,
        ops: portFlag(flags.opsPort, '--ops-port') ?? environment.read('KVIDX_OPS_PORT') ?? 8080,
      }
      const names = databases.map(({ metadata }) => metadata.name)
      const ports = await claimPorts(host, first, names)
      const print = (line: string) => process.stdout.write(`${line}\n`)
      const root = resolve(flags.dataDir ?? environment.read('KVIDX_DATA_DIR') ?? '.kvidx')
      const standalone = runStandalone(
        databases,
        {
          root,
          host,
          ports,
          ...(tokensDirectory !== undefined && { tokensDirectory }),
          print,
        },
        systemClock,
      )
      print(`data in ${root}`)
      for (const { namespace, name, dataAddress, opsAddress, socket } of standalone.databases)
        print(
          `${namespace}/${name}: data ${dataAddress}/v1  operations ${opsAddress}/status${socket ? `  socket ${socket}` : ''}`,
        )
      if (encrypted)
        print(`${encrypted.metadata.name}: spec.security.tls is left out here: plain HTTP, on this machine only`)
      print('Ctrl-C stops')
      for (const file of flags.file)
        watchFile(file, { persistent: false, interval: 2000 }, (now, before) => {
          // being read is a change, too
          if (now.mtimeMs !== before.mtimeMs)
            print(`${file} was changed; it is read at the start: stop with Ctrl-C and start again`)
        })
      await waitForSignal()
      print('stopping')
      void waitForSignal(SECOND_SIGNAL).then(() => {
        standalone.kill()
        process.exit(130)
      })
      await standalone.stop()
      print('stopped')
      process.exit(0)
    })
}
