import { duration, quantity } from '../../common/schema.ts'
import { defaultBlock, defaults, integer, type Rule } from '../schema-types.ts'

const atLeast = (large: string, small: string): Rule => ({
  rule: `!isQuantity(string(self.${large})) || !isQuantity(string(self.${small})) || quantity(string(self.${large})).compareTo(quantity(string(self.${small}))) >= 0`,
  message: `limits.${large} must be at least limits.${small}`,
  fieldPath: `.${large}`,
})

export const limits = defaultBlock(
  {
    description: 'Bounds of the data API. What is beyond them gets an error with the limit in it.',
    rules: [atLeast('atomicBytes', 'recordBytes'), atLeast('bufferedBytes', 'atomicBytes')],
  },
  {
    recordBytes: defaults(
      quantity({ description: 'Largest data of one record, 1Ki to 512Mi.', min: '1Ki', max: '512Mi' }),
      '64Mi',
    ),
    atomicBytes: defaults(
      quantity({
        description: 'Largest batch, import or range remove in one commit, 1Mi to 1Gi.',
        min: '1Mi',
        max: '1Gi',
      }),
      '64Mi',
    ),
    atomicRecords: defaults(
      integer({ description: 'Most records in one commit, 1000 to 10000000.', minimum: 1000, maximum: 10_000_000 }),
      100_000,
    ),
    bufferedBytes: defaults(
      quantity({ description: 'All request bodies held in memory at one time, 1Mi to 64Gi.', min: '1Mi', max: '64Gi' }),
      '256Mi',
    ),
    connections: defaults(
      integer({ description: 'Open connections, 16 to 65535.', minimum: 16, maximum: 65_535 }),
      4096,
    ),
    streams: defaults(
      integer({ description: 'Scans, exports and imports that run at one time, 1 to 256.', minimum: 1, maximum: 256 }),
      16,
    ),
    followers: defaults(
      integer({ description: 'Readers of the change feed at one time, 0 to 4096.', minimum: 0, maximum: 4096 }),
      256,
    ),
    idleTimeout: defaults(
      duration({ description: 'Longest pause of a client inside a request, 1s to 1h.', min: '1s', max: '1h' }),
      '30s',
    ),
    snapshotGrowth: defaults(
      quantity({
        description:
          'What the WAL or map may grow by while one scan or backup holds its snapshot, 1Mi to 64Ti or a percentage of the free space. Past it a scan is cut, and a Full goes on in key slices.',
        min: '1Mi',
        max: '64Ti',
        percent: true,
      }),
      '25%',
    ),
    reserve: defaults(
      quantity({
        description:
          'Free space below which writes are refused (507), 1Mi to 1Ti or a percentage of the volume. Reads, removes and backups go on.',
        min: '1Mi',
        max: '1Ti',
        percent: true,
      }),
      '5%',
    ),
  },
)
