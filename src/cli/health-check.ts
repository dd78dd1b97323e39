import { Command } from 'commander'
import { KvidxError } from '../common/errors.ts'
import { ServerClient } from './client.ts'
import { type Io, write } from './io.ts'
import { OPS_OPTION, opsAddress } from './ops-address.ts'
import { parseServer } from './server-address.ts'

interface HealthFlags {
  readonly ops?: string
  readonly ready?: true
}

/** `kvidx health-check`: for probes that run a command, such as a container's. */
export function healthCheckCommand(io: Io): Command {
  return new Command('health-check')
    .description('ask the operations port for its health; exit code 0 for OK and DEGRADED')
    .addOption(OPS_OPTION())
    .option('--ready', 'ask for readiness instead')
    .action(async (flags: HealthFlags) => {
      const client = await ServerClient.open(parseServer(opsAddress(flags.ops), '--ops'))
      try {
        const answer = await client.call('GET', flags.ready ? '/ready' : '/health', { expectAnyStatus: true })
        await write(io.output, await answer.bytes())
        if (answer.status !== 200)
          throw new KvidxError('internal', flags.ready ? 'the database is not ready' : 'the database is not healthy')
      } finally {
        await client.close()
      }
    })
}
