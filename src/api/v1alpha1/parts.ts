import { Type } from '@sinclair/typebox'
import { duration } from '../../common/schema.ts'
import { block, defaults, flag, map, optional, text } from '../schema-types.ts'

/** Parts that several blocks of the spec share. */

const LABEL = '[a-z0-9]([-a-z0-9]*[a-z0-9])?'

/** Name of an object in the same namespace. */
export function objectName(description: string) {
  return text({
    description,
    minLength: 1,
    maxLength: 253,
    pattern: `^${LABEL}([.]${LABEL})*$`,
    form: 'the name of an object: lower-case letters, digits, - and .',
  })
}

export function secretRef(description: string) {
  return block({ description }, { name: objectName('Name of the Secret, in the namespace of this object.') })
}

export const CRON_PATTERN =
  '^(@(yearly|annually|monthly|weekly|daily|midnight|hourly)|[0-9*/,-]+ [0-9*/,-]+ [0-9*/,-]+ [0-9*/,A-Za-z-]+ [0-9*/,A-Za-z-]+)$'

export function cron(description: string) {
  return Type.Unsafe<string>({
    ...text({
      description: `${description} Five fields (minute, hour, day of month, month, day of week) separated by one space, or @hourly, @daily, @weekly, @monthly, @yearly.`,
      minLength: 6,
      maxLength: 100,
      pattern: CRON_PATTERN,
      form: 'a cron schedule of five fields such as "0 2 * * *", or @hourly, @daily, @weekly, @monthly, @yearly',
    }),
    kvidxCron: true,
  })
}

export function timeZone(description: string) {
  return Type.Unsafe<string>({
    ...text({
      description,
      minLength: 1,
      maxLength: 64,
      pattern: '^[A-Za-z][A-Za-z0-9_+-]*(/[A-Za-z0-9_+-]+)*$',
      form: 'the name of a time zone such as Etc/UTC or Europe/Berlin',
    }),
    kvidxTimeZone: true,
  })
}

/** A recurring time span in which heavy work may run. */
export function window(description: string) {
  return block(
    { description },
    {
      schedule: cron('When the window opens.'),
      duration: defaults(
        duration({ description: 'How long it stays open, 10m to 24h.', min: '10m', max: '24h' }),
        '2h',
      ),
      timeZone: defaults(timeZone('Time zone of the schedule.'), 'Etc/UTC'),
    },
  )
}

export const POSITION_PATTERN = '^(0|[1-9][0-9]{0,19})[.](0|[1-9][0-9]{0,19})$'

export function position(description: string) {
  return text({
    description: `${description} Written epoch.seq, both decimal.`,
    minLength: 3,
    maxLength: 41,
    pattern: POSITION_PATTERN,
    form: 'a position epoch.seq such as 3.1048576',
  })
}

export function time(description: string) {
  return text({
    description: `${description} RFC 3339, such as 2026-03-01T14:03:00Z.`,
    minLength: 20,
    maxLength: 40,
    format: 'date-time',
  })
}

/** The life of one database; UUIDs in practice. */
export function lineage(description: string) {
  return text({
    description,
    minLength: 1,
    maxLength: 64,
    pattern: '^[a-z0-9]([-a-z0-9]*[a-z0-9])?$',
    form: 'a lineage as status.lineage shows it: lower-case letters, digits and -',
  })
}

export const DATABASE_NAME_PATTERN = '^[a-z]([-a-z0-9]*[a-z0-9])?$'

export function databaseName(description: string) {
  return text({
    description,
    minLength: 1,
    maxLength: 32,
    pattern: DATABASE_NAME_PATTERN,
    form: 'the name of a database: at most 32 lower-case letters, digits and -, beginning with a letter',
  })
}

const amounts = (description: string) =>
  map(
    Type.Unsafe<string | number>({
      type: ['integer', 'string'],
      maxLength: 32,
      'x-kubernetes-int-or-string': true,
      kvidxQuantity: { fraction: true },
    }),
    { description, maxProperties: 16 },
  )

/** Requests and limits of a container. */
export function resources(description: string) {
  return block(
    { description },
    {
      requests: optional(amounts('Least amounts that the scheduler reserves, such as cpu: 250m, memory: 512Mi.')),
      limits: optional(amounts('Most amounts that the container gets, such as memory: 1Gi.')),
    },
  )
}

export const S3_PROPERTIES = {
  bucket: text({
    description: 'Name of the bucket; it must exist.',
    minLength: 3,
    maxLength: 63,
    pattern: '^[a-z0-9][a-z0-9.-]*[a-z0-9]$',
    form: 'the name of a bucket: 3 to 63 lower-case letters, digits, - and .',
  }),
  prefix: optional(
    text({
      description: 'Put before every key, without a slash at either end. Default: none.',
      maxLength: 256,
      pattern: '^[A-Za-z0-9!_.()-]+(/[A-Za-z0-9!_.()-]+)*$',
      form: 'path segments of letters, digits and !_.()- joined by /',
    }),
  ),
  endpoint: optional(
    text({
      description: 'Address of the service, such as https://minio.storage:9000. Default: Amazon S3 of the region.',
      maxLength: 256,
      pattern: '^https?://[A-Za-z0-9.:_\\[\\]-]+(/[A-Za-z0-9._/-]*)?$',
      form: 'an http or https URL without parameters',
    }),
  ),
  region: defaults(
    text({
      description: 'Region that requests are signed for.',
      minLength: 1,
      maxLength: 64,
      pattern: '^[A-Za-z0-9-]+$',
      form: 'the name of a region such as eu-central-1',
    }),
    'us-east-1',
  ),
  pathStyle: optional(
    flag('true: endpoint/bucket/key; false: bucket.endpoint/key. Default: true when endpoint is set.'),
  ),
  credentialsSecretRef: optional(
    secretRef(
      'Secret with accessKeyId, secretAccessKey and, if needed, sessionToken. Default: the identity that the pod has.',
    ),
  ),
  caSecretRef: optional(
    secretRef(
      'Secret whose ca.crt holds the authorities (PEM) that are trusted for this endpoint instead of the system’s.',
    ),
  ),
}

/** An S3 bucket. */
export function s3(description: string) {
  return block({ description }, S3_PROPERTIES)
}
