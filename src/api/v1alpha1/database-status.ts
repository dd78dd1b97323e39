import type { Static } from '@sinclair/typebox'
import { words } from '../../common/schema.ts'
import { block, flag, integer, list, optional, text } from '../schema-types.ts'
import { conditions } from './conditions.ts'

const count = (description: string) => optional(integer({ description, minimum: 0, maximum: 2 ** 53 - 1 }))
const line = (description: string, maxLength = 256) => optional(text({ description, maxLength }))
const moment = (description: string) =>
  optional(text({ description: `${description} RFC 3339.`, maxLength: 40, format: 'date-time' }))

const backupReference = (description: string) =>
  optional(
    block(
      { description },
      {
        name: line('Name of the KvidxBackup.'),
        time: moment('When it ended.'),
        position: line('Its position, epoch.seq.', 64),
      },
    ),
  )

const data = block(
  { description: 'Figures of the data, as of the time in it. Refreshed at most every monitoring.figuresInterval.' },
  {
    time: moment('When they were taken.'),
    position: line('Position of the last commit, epoch.seq.', 64),
    keys: count('Stored records.'),
    dataBytes: count('Sum of their data, bytes.'),
    fileBytes: count('Files of the engine, bytes.'),
    walBytes: count('Write-ahead log, bytes.'),
    size: line('fileBytes for people.', 32),
    fragmentation: count('Unused part of the files, percent.'),
    digest: line('Content digest, 32 hex digits.', 32),
  },
)

const volume = block(
  { description: 'One volume.' },
  {
    name: text({ description: 'Name of the claim.', maxLength: 253 }),
    phase: line('Phase of the claim.', 64),
    requested: line('Size asked for.', 32),
    size: line('Size that it has.', 32),
    usedBytes: count('In use, bytes.'),
    usedPercent: count('In use, percent.'),
    daysUntilFull: count('Forecast; absent when it does not fill.'),
    grownAt: moment('When its size was last raised.'),
    quarantine: optional(
      block(
        { description: 'What was moved out of the way and is kept for a while.' },
        { entries: count('Directories.'), bytes: count('Bytes.'), oldest: moment('The oldest.') },
      ),
    ),
  },
)

const schedule = block(
  { description: 'One schedule.' },
  {
    name: text({ description: 'Its name.', maxLength: 12 }),
    nextRun: moment('When it runs next.'),
    resumed: moment(
      'When it went on after it was suspended or the database slept: what was due before is not overdue.',
    ),
    lastRun: moment('When it ran last.'),
    lastSuccess: moment('When it last succeeded.'),
    lastBackup: line('The backup that it last made.'),
  },
)

const backup = block(
  { description: 'State of the backups.' },
  {
    lastSuccessful: backupReference('The newest backup that is stored and was read back.'),
    lastVerified: backupReference('The newest backup that was restored and compared.'),
    recoveryWindow: optional(
      block(
        { description: 'Every moment from `from` to `to` can be restored.' },
        { from: moment('Earliest.'), to: moment('Latest.') },
      ),
    ),
    schedules: optional(list(schedule, { description: 'The schedules.', maxItems: 8, keys: ['name'] })),
    catalog: line(
      'The store whose backups have a KvidxBackup each: they are made when it is seen for the first time, and by kvidx backup sync.',
      2048,
    ),
    unshippedBytes: count('Changes that are not yet in the store, bytes.'),
    unshippedSeconds: count('Age of the oldest of them, seconds.'),
    drill: optional(
      block(
        { description: 'The last restore drill.' },
        {
          time: moment('When it ended.'),
          result: optional(words(['Succeeded', 'Failed'], { description: 'How it ended.' })),
          target: line('The moment or position that was restored.', 64),
          restoreSeconds: count('Time from start to ready (RTO), seconds.'),
          message: line('Why it failed.', 1024),
        },
      ),
    ),
  },
)

/** `status` of KvidxDatabase. */
export const databaseStatus = block(
  { description: 'What the database is. Written by the operator alone.' },
  {
    observedGeneration: count('The generation of spec that all of this tells of.'),
    conditions: optional(conditions),
    lineage: line('The life of this database: a volume or a backup of another lineage is not taken for it.', 64),
    replicas: count('Pods that exist.'),
    readyReplicas: count('Pods that serve.'),
    selector: line('Label selector of the pods, for the scale subresource.', 512),
    primary: line('The pod that takes writes.'),
    endpoints: optional(
      block(
        { description: 'Where it is reached.' },
        {
          data: line('Data API, reading and writing.', 512),
          readOnly: line('Data API, reading.', 512),
          operations: line('Health and metrics.', 512),
          socket: line('Unix socket in the pod.', 512),
          tokenSecret: line('Secret with the tokens.', 253),
        },
      ),
    ),
    image: line('Image that the pods last served with, or were first made with.', 512),
    updateAvailable: line('A newer default image.', 512),
    templateVersion: count('Version of the renderer of the pod template.'),
    engineVersion: line('Version of the engine’s library.', 64),
    hibernated: optional(flag('true: no pods run.')),
    data: optional(data),
    storage: optional(list(volume, { description: 'The volumes.', maxItems: 18, keys: ['name'] })),
    backup: optional(backup),
  },
)
export type KvidxDatabaseStatus = Static<typeof databaseStatus>
