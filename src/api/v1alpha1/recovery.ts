import { duration, words } from '../../common/schema.ts'
import { defaultBlock, defaults, optional } from '../schema-types.ts'
import { lineage } from './parts.ts'

export const recovery = defaultBlock(
  { description: 'What happens when the volume is not as it should be.' },
  {
    onCorruption: defaults(
      words(['Stop', 'RestoreLatest', 'Salvage'], {
        description:
          'What to do with a damaged database. Stop: stay down and say what to do. RestoreLatest: restore the newest good backup. Salvage (SQLite): keep every record that can still be read. Damaged files always go to quarantine.',
      }),
      'Stop',
    ),
    fullCheck: defaults(
      words(['Background', 'Always'], {
        description:
          'The full check after an unclean end. Background: the database serves while it runs. Always: the database serves only after it.',
      }),
      'Background',
    ),
    adoptGrace: defaults(
      duration({
        description: 'Expired records of an adopted database are removed only after this time, 0s to 365d.',
        min: '0s',
        max: '365d',
      }),
      '24h',
    ),
    allowEmpty: optional(lineage('Start empty although the database had data: the lineage whose loss is accepted.')),
    quarantine: defaults(
      duration({
        description: 'How long files in quarantine are kept; the newest always is. 1h to 365d.',
        min: '1h',
        max: '365d',
      }),
      '7d',
    ),
  },
)
