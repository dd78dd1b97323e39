import { Command } from 'commander'
import { formatBytes } from '../common/quantity.ts'
import { type ConnectionFlags, connected, withConnection } from './connection-options.ts'
import { type Io, write } from './io.ts'
import { fields, instant } from './table.ts'

/** `kvidx stats`: figures of a database. */
export function statsCommand(io: Io): Command {
  return withConnection(new Command('stats'))
    .description('show the figures of a database')
    .action((flags: ConnectionFlags) =>
      connected(flags, async client => {
        const stats = await (await client.call('GET', '/v1/stats')).json()
        if (flags.output === 'json') return write(io.output, `${JSON.stringify(stats)}\n`)
        const figures = stats.figures as Record<string, number | undefined>
        const log = stats.log as Record<string, string>
        const size = (bytes: unknown) => (bytes === undefined ? undefined : formatBytes(Number(bytes)))
        return write(
          io.output,
          fields({
            engine: stats.engineVersion,
            lineage: stats.lineage,
            position: stats.position,
            'last commit': stats.time === '0' ? 'none' : instant(String(stats.time)),
            records: stats.count,
            'with expiry': stats.expiring,
            'data size': size(stats.dataBytes),
            'first key': stats.minKey,
            'last key': stats.maxKey,
            digest: stats.digest,
            'files size': size(figures.fileBytes),
            'WAL size': size(figures.walBytes),
            'map size': size(figures.mapBytes),
            reusable: size(figures.freeBytes),
            fragmentation: `${((figures.fragmentation ?? 0) * 100).toFixed(1)} %`,
            'change log': `${size(log.bytes)} behind ${log.base}`,
          }),
        )
      }),
    )
}
