import { words } from '../../common/schema.ts'
import { block, defaults, optional, text } from '../schema-types.ts'
import { databaseName, lineage, objectName, position, s3, time } from './parts.ts'

const claim = block(
  { description: 'An existing PersistentVolumeClaim, in the namespace of this object.' },
  { claimName: objectName('Name of the claim.') },
)

const source = block(
  {
    description: 'A backup store that another database wrote.',
    rules: [{ rule: '!(has(self.volume) && has(self.s3))', message: 'at most one of volume and s3 is allowed' }],
  },
  {
    database: databaseName('Name of the database that was backed up.'),
    namespace: optional(
      text({
        description: 'Its namespace. Default: that of this object.',
        minLength: 1,
        maxLength: 63,
        pattern: '^[a-z0-9]([-a-z0-9]*[a-z0-9])?$',
        form: 'the name of a namespace',
      }),
    ),
    lineage: optional(lineage('Its lineage, if the store holds several. Default: the newest.')),
    volume: optional(claim),
    s3: optional(s3('The bucket. Default, without volume and s3: the destination in backup.')),
  },
)

const restore = block(
  {
    description: 'Start as a copy of a backup.',
    rules: [
      { rule: 'has(self.backup) != has(self.source)', message: 'exactly one of backup and source is allowed' },
      { rule: '!(has(self.time) && has(self.position))', message: 'at most one of time and position is allowed' },
    ],
  },
  {
    backup: optional(objectName('Name of a KvidxBackup in the namespace of this object.')),
    source: optional(source),
    time: optional(time('The state of this moment: every commit up to and including it. Default: the newest state.')),
    position: optional(position('The state of this position.')),
  },
)

const imported = block(
  {
    description: 'Start with an export of kvidxkit, or with its SQLite file.',
    rules: [{ rule: 'has(self.volume) != has(self.s3)', message: 'exactly one of volume and s3 is allowed' }],
  },
  {
    format: words(['Binary', 'JSON', 'CSV', 'SQLite'], { description: 'What the file is.' }),
    path: text({
      description: 'Path of the file on the volume, or its key in the bucket (below the prefix).',
      minLength: 1,
      maxLength: 512,
      pattern: '^[^/\\x00][^\\x00]*$',
      form: 'a relative path',
      rules: [
        {
          rule: "!self.split('/').exists(part, part == '..' || part == '.')",
          message: "the path must not have parts '.' or '..'",
        },
      ],
    }),
    volume: optional(claim),
    s3: optional(s3('The bucket.')),
    onDuplicate: defaults(
      words(['Fail', 'Skip', 'Replace'], {
        description: 'What happens when the file has a key twice: stop, keep the first, keep the last.',
      }),
      'Fail',
    ),
  },
)

export const bootstrap = block(
  {
    description: 'Where the first data comes from. Only a database that never had data takes it; at most one source.',
    rules: [
      {
        rule: '(has(self.restore) ? 1 : 0) + (has(self.__import__) ? 1 : 0) + (has(self.adopt) ? 1 : 0) <= 1',
        message: 'at most one of restore, import and adopt is allowed',
      },
    ],
  },
  {
    restore: optional(restore),
    import: optional(imported),
    adopt: optional(lineage('Take over a volume that belongs to another database, named by its lineage.')),
  },
)
