import { LOG_LEVELS } from '../../common/log.ts'
import { duration, quantity, words } from '../../common/schema.ts'
import { defaultBlock, defaults, integer } from '../schema-types.ts'

export const monitoring = defaultBlock(
  { description: 'Logs, and the thresholds of health and conditions. Changes are taken up without a restart.' },
  {
    logLevel: defaults(words(LOG_LEVELS, { description: 'Least level of the log.' }), 'Info'),
    slowOperation: defaults(
      duration({ description: 'Operations slower than this are logged, 1ms to 10m.', min: '1ms', max: '10m' }),
      '100ms',
    ),
    walSize: defaults(
      quantity({
        description: 'Size of the write-ahead log from which health is DEGRADED, 1Mi to 1Ti.',
        min: '1Mi',
        max: '1Ti',
      }),
      '100Mi',
    ),
    fragmentation: defaults(
      integer({
        description: 'Unused part of the files in percent from which health is DEGRADED, 5 to 95.',
        minimum: 5,
        maximum: 95,
      }),
      30,
    ),
    usedPercent: defaults(
      integer({
        description: 'Percentage of the volume in use from which StorageHealthy is False, 50 to 99.',
        minimum: 50,
        maximum: 99,
      }),
      85,
    ),
    daysUntilFull: defaults(
      integer({
        description: 'StorageHealthy is False when the forecast is below this number of days, 0 to 365.',
        minimum: 0,
        maximum: 365,
      }),
      7,
    ),
    figuresInterval: defaults(
      duration({
        description: 'Figures alone are written to status at most this often, 1m to 24h.',
        min: '1m',
        max: '24h',
      }),
      '10m',
    ),
  },
)
