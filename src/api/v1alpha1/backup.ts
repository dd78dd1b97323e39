import { duration, quantity, words } from '../../common/schema.ts'
import {
  block,
  defaultBlock,
  defaults,
  flag,
  integer,
  list,
  map,
  optional,
  passThrough,
  text,
} from '../schema-types.ts'
import { cron, objectName, resources, s3, timeZone } from './parts.ts'

export const BACKUP_TYPES = ['Full', 'Incremental', 'VolumeSnapshot'] as const
export type BackupType = (typeof BACKUP_TYPES)[number]

const destination = block(
  {
    description: 'Where backups go: exactly one of volume and s3.',
    rules: [{ rule: 'has(self.volume) != has(self.s3)', message: 'exactly one of volume and s3 is allowed' }],
  },
  {
    volume: optional(
      block(
        { description: 'A volume of its own (PersistentVolumeClaim <database>-backups), which outlives this object.' },
        {
          size: quantity({ description: 'Size of the volume, 64Mi to 64Ti.', min: '64Mi', max: '64Ti' }),
          storageClassName: optional(
            objectName(
              'StorageClass of the volume; best another one than that of the data. Default: the default class of the cluster.',
            ),
          ),
        },
      ),
    ),
    s3: optional(s3('A bucket of any service that speaks S3.')),
  },
)

const schedule = block(
  { description: 'A backup that is made again and again.' },
  {
    name: text({
      description: 'Part of the names of what it makes, at most 12 characters.',
      minLength: 1,
      maxLength: 12,
      pattern: '^[a-z0-9]([-a-z0-9]*[a-z0-9])?$',
      form: 'at most 12 lower-case letters, digits and -',
    }),
    schedule: cron('When it runs, in the time zone of backup.timeZone.'),
    type: defaults(
      words(BACKUP_TYPES, {
        description:
          'Full: everything. Incremental: the changes since the last backup; becomes Full when the change log no longer reaches back. VolumeSnapshot: a CSI snapshot of the data volume.',
      }),
      'Full',
    ),
    verify: optional(
      flag(
        'Restore it into a scratch engine and compare count and digest. Default: true for Full, false for the others.',
      ),
    ),
    suspend: defaults(flag('Do not start it. Default false.'), false),
    startingDeadline: defaults(
      duration({
        description: 'A run that was missed is made up for within this time, 1m to 7d.',
        min: '1m',
        max: '7d',
      }),
      '6h',
    ),
    timeout: defaults(
      duration({ description: 'A run that takes longer has failed, 1m to 7d.', min: '1m', max: '7d' }),
      '6h',
    ),
  },
)

const days = (description: string, maximum: number) =>
  integer({ description: `${description}, 0 to ${maximum}.`, minimum: 0, maximum })

const retention = defaultBlock(
  {
    description: 'Which good backups are kept. What a kept backup needs, and the newest verified Full, is always kept.',
  },
  {
    daily: defaults(days('Latest days whose last Full is kept', 3660), 7),
    weekly: defaults(days('Latest ISO weeks whose last Full is kept', 520), 4),
    monthly: defaults(days('Latest months whose first Full is kept', 1200), 12),
    last: defaults(
      integer({ description: 'Newest Fulls that are kept whatever their age, 1 to 1000.', minimum: 1, maximum: 1000 }),
      3,
    ),
    window: defaults(
      duration({
        description: 'Every moment of this time can be restored, if continuous is on, 0s to 3650d.',
        min: '0s',
        max: '3650d',
      }),
      '7d',
    ),
    volumeSnapshots: defaults(
      integer({
        description: 'Newest VolumeSnapshots of each schedule that are kept, 1 to 1000.',
        minimum: 1,
        maximum: 1000,
      }),
      7,
    ),
    managedBy: defaults(
      words(['Kvidx', 'Store'], {
        description:
          'Kvidx: what is not kept is deleted by the prune job. Store: nothing in the store is deleted; the rules of the bucket do that.',
      }),
      'Kvidx',
    ),
  },
)

const continuous = defaultBlock(
  { description: 'Shipping changes to the destination as they are made, so that any moment can be restored.' },
  {
    enabled: defaults(flag('Ship changes. Default false.'), false),
    interval: defaults(
      duration({ description: 'Changes are shipped at least this often, 100ms to 1h.', min: '100ms', max: '1h' }),
      '1s',
    ),
    segmentSize: defaults(
      quantity({ description: 'Changes of this size are shipped at once, 64Ki to 64Mi.', min: '64Ki', max: '64Mi' }),
      '1Mi',
    ),
  },
)

const scratch = defaultBlock(
  { description: 'Space in which backups are restored to verify them.' },
  {
    size: optional(
      quantity({
        description:
          'Size, 64Mi to 64Ti. Up to 5Gi it is an emptyDir, above it a volume that lives as long as the job. Default: the size of the data volume.',
        min: '64Mi',
        max: '64Ti',
      }),
    ),
    storageClassName: optional(objectName('StorageClass, when it is a volume. Default: that of the data volume.')),
  },
)

const job = defaultBlock(
  { description: 'The pods that make, verify and prune backups.' },
  {
    resources: optional(
      resources('Resources of the job’s container. Default: requests cpu 100m, memory 256Mi; limit memory 768Mi.'),
    ),
    nodeSelector: optional(
      map(text({ description: 'Value of a label.', maxLength: 63 }), {
        description: 'Labels that a node must have.',
        maxProperties: 32,
      }),
    ),
    tolerations: optional(
      list(passThrough('A toleration as in a pod.'), { description: 'Tolerations as in a pod.', maxItems: 32 }),
    ),
    priorityClassName: optional(objectName('PriorityClass of the pods.')),
    successfulHistory: defaults(
      integer({ description: 'Finished jobs of a schedule that are kept, 0 to 100.', minimum: 0, maximum: 100 }),
      1,
    ),
    failedHistory: defaults(
      integer({ description: 'Failed jobs of a schedule that are kept, 0 to 100.', minimum: 0, maximum: 100 }),
      3,
    ),
  },
)

const drill = block(
  {
    description:
      'Restoring to a random moment of the window and comparing, as an exercise. The time that it takes is in status.',
  },
  {
    schedule: cron('When it runs, in the time zone of backup.timeZone.'),
    suspend: defaults(flag('Do not start it. Default false.'), false),
  },
)

export const backup = block(
  {
    description: 'Backups of this database. Without this block there are none.',
    rules: [
      {
        rule: "self.schedules.exists(s, s.type == 'Full') || !self.schedules.exists(s, s.type == 'Incremental')",
        message: 'a schedule of type Incremental needs one of type Full beside it',
        fieldPath: '.schedules',
      },
      {
        rule: "self.schedules.exists(s, s.type == 'Full') || !self.continuous.enabled",
        message: 'backup.continuous needs a schedule of type Full: changes are replayed on top of a Full',
        fieldPath: '.continuous.enabled',
      },
      {
        rule: "!has(self.drill) || self.schedules.exists(s, s.type == 'Full')",
        message: 'backup.drill needs a schedule of type Full',
        fieldPath: '.drill',
      },
    ],
  },
  {
    destination,
    timeZone: defaults(
      timeZone('Time zone of the schedules and of the days, weeks and months of retention.'),
      'Etc/UTC',
    ),
    suspend: defaults(flag('Start no scheduled backup. Default false.'), false),
    schedules: defaults(
      list(schedule, { description: 'At most 8 schedules, each with a name of its own.', maxItems: 8, keys: ['name'] }),
      [],
    ),
    retention,
    continuous,
    compressionLevel: defaults(
      integer({ description: 'Level of zstd, 1 (fast) to 19 (small).', minimum: 1, maximum: 19 }),
      1,
    ),
    bandwidthLimit: optional(
      quantity({
        description: 'Most bytes a second to and from the destination, 64Ki to 1Ti. Default: no limit.',
        min: '64Ki',
        max: '1Ti',
      }),
    ),
    scratch,
    drill: optional(drill),
    job,
  },
)
