import { quantity } from '../../common/schema.ts'
import { defaultBlock, defaults } from '../schema-types.ts'

export const changeLog = defaultBlock(
  {
    description: 'The log of changes in the database: it feeds incremental and continuous backups and the change feed.',
  },
  {
    maxSize: defaults(
      quantity({
        description:
          'What backups and replicas that are behind may hold, 1Mi to 1Ti or a percentage of the volume. Past it the oldest changes go and the next backup is Full.',
        min: '1Mi',
        max: '1Ti',
        percent: true,
      }),
      '10%',
    ),
    idleSize: defaults(
      quantity({
        description:
          'What is kept for followers of the change feed when nobody else needs it, 0 to 1Ti or a percentage of the volume.',
        min: '0',
        max: '1Ti',
        percent: true,
      }),
      '1%',
    ),
  },
)
