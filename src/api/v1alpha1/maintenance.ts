import { duration, quantity } from '../../common/schema.ts'
import { defaultBlock, defaults, flag, integer, optional } from '../schema-types.ts'
import { cron, timeZone, window } from './parts.ts'

export const maintenance = defaultBlock(
  { description: 'Work that keeps the database in shape. Changes are taken up without a restart.' },
  {
    expiry: defaultBlock(
      { description: 'Removing records whose expiry has passed.' },
      {
        interval: defaults(duration({ description: 'How often, 1s to 24h.', min: '1s', max: '24h' }), '1m'),
        batchSize: defaults(
          integer({ description: 'Most records removed in one commit, 1 to 100000.', minimum: 1, maximum: 100_000 }),
          10_000,
        ),
      },
    ),
    checkpoint: defaultBlock(
      { description: 'Moving the write-ahead log into the database.' },
      {
        walSize: defaults(
          quantity({
            description: 'Size of the log from which a checkpoint is made, 1Mi to 10Gi.',
            min: '1Mi',
            max: '10Gi',
          }),
          '100Mi',
        ),
        interval: defaults(
          duration({ description: 'How often one is made at least, 1s to 24h.', min: '1s', max: '24h' }),
          '5m',
        ),
      },
    ),
    vacuum: defaultBlock(
      { description: 'Giving unused space back: SQLite in small slices, LMDB and RocksDB by compaction.' },
      {
        interval: defaults(
          duration({ description: 'How often a slice is given back, 1s to 24h.', min: '1s', max: '24h' }),
          '1m',
        ),
        fragmentation: defaults(
          integer({
            description: 'Unused part of the files in percent from which they are rewritten as a whole, 10 to 90.',
            minimum: 10,
            maximum: 90,
          }),
          30,
        ),
        window: optional(
          window('When the files may be rewritten as a whole: writes wait meanwhile. Default: never by itself.'),
        ),
      },
    ),
    check: defaultBlock(
      { description: 'Checking the files and the digest of all records.' },
      {
        enabled: defaults(flag('Check on schedule. Default true.'), true),
        schedule: defaults(cron('When.'), '0 4 * * 0'),
        timeZone: defaults(timeZone('Time zone of the schedule.'), 'Etc/UTC'),
      },
    ),
  },
)
