import { duration, quantity, words } from '../../common/schema.ts'
import { block, defaultBlock, defaults, flag, integer, optional, text } from '../schema-types.ts'
import { objectName } from './parts.ts'

export const DELETION_POLICIES = ['Retain', 'Delete', 'Snapshot'] as const

const autoGrow = defaultBlock(
  {
    description: 'Growing the volume before it is full. The size in status grows; spec.storage.size is never changed.',
    rules: [
      {
        rule: '!self.enabled || has(self.maxSize)',
        message: 'autoGrow.maxSize is required when autoGrow.enabled is true',
        fieldPath: '.maxSize',
        reason: 'FieldValueRequired',
      },
    ],
  },
  {
    enabled: defaults(flag('Grow the volume by itself. Default false.'), false),
    threshold: defaults(
      integer({ description: 'Percentage in use from which the volume grows, 50 to 95.', minimum: 50, maximum: 95 }),
      80,
    ),
    daysUntilFull: defaults(
      integer({
        description:
          'It also grows when the forecast says that it is full in fewer days and at least half of it is in use, 0 to 365. 0: only the threshold counts.',
        minimum: 0,
        maximum: 365,
      }),
      3,
    ),
    step: defaults(
      integer({
        description:
          'Growth in percent of the size, 5 to 100; more where that would not bring the use below the threshold.',
        minimum: 5,
        maximum: 100,
      }),
      25,
    ),
    interval: defaults(
      duration({
        description:
          'Least time between two growths, 5m to 24h. Some storage allows few of them: Amazon EBS one in 6 hours.',
        min: '5m',
        max: '24h',
      }),
      '10m',
    ),
    maxSize: optional(
      quantity({ description: 'The volume never grows beyond this, 64Mi to 64Ti.', min: '64Mi', max: '64Ti' }),
    ),
  },
)

export const storage = block(
  {
    description: 'The data volume.',
    rules: [
      {
        rule: '!isQuantity(string(self.size)) || !isQuantity(string(oldSelf.size)) || quantity(string(self.size)).compareTo(quantity(string(oldSelf.size))) >= 0',
        message: 'storage.size cannot shrink: restore a backup into a new database instead',
        fieldPath: '.size',
      },
      {
        rule: 'has(self.storageClassName) == has(oldSelf.storageClassName) && (!has(self.storageClassName) || self.storageClassName == oldSelf.storageClassName)',
        message: 'storage.storageClassName cannot change: restore a backup into a new database instead',
        fieldPath: '.storageClassName',
      },
      {
        rule: 'self.accessMode == oldSelf.accessMode',
        message: 'storage.accessMode cannot change: restore a backup into a new database instead',
        fieldPath: '.accessMode',
      },
      {
        rule: '!has(self.autoGrow.maxSize) || !isQuantity(string(self.autoGrow.maxSize)) || !isQuantity(string(self.size)) || quantity(string(self.autoGrow.maxSize)).compareTo(quantity(string(self.size))) >= 0',
        message: 'autoGrow.maxSize must be at least storage.size',
        fieldPath: '.autoGrow.maxSize',
      },
    ],
  },
  {
    size: quantity({
      description: 'Size of the volume, 64Mi to 64Ti. It can be raised, never lowered.',
      min: '64Mi',
      max: '64Ti',
    }),
    storageClassName: optional(
      objectName('StorageClass of the volume. Default: the default class of the cluster. Cannot change.'),
    ),
    accessMode: defaults(
      words(['ReadWriteOnce', 'ReadWriteOncePod'], {
        description:
          'ReadWriteOncePod keeps a second pod off the volume even on the same node, where the class supports it. Cannot change.',
      }),
      'ReadWriteOnce',
    ),
    volumeSnapshotClassName: optional(
      objectName(
        'VolumeSnapshotClass for schedules of type VolumeSnapshot and for deletionPolicy Snapshot. Default: the default class of the driver.',
      ),
    ),
    autoGrow,
    deletionPolicy: defaults(
      words(DELETION_POLICIES, {
        description:
          'What becomes of the volumes when this object is deleted. Retain: they stay, and a database of the same name takes them up again. Delete: they go. Snapshot: a VolumeSnapshot is taken, then they go.',
      }),
      'Retain',
    ),
  },
)

export const image = text({
  description: 'Image of the database pods. Default: the image in status, for a new database that of the operator.',
  minLength: 1,
  maxLength: 512,
  pattern: '^[A-Za-z0-9][A-Za-z0-9._:/@-]*$',
  form: 'an image reference such as registry.example/kvidx/operator:1.2.3',
})
