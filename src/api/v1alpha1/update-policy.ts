import { words } from '../../common/schema.ts'
import { defaultBlock, defaults, optional } from '../schema-types.ts'
import { window } from './parts.ts'

export const updatePolicy = defaultBlock(
  {
    description: 'When a newer default image is rolled out to a database that does not set image.',
    rules: [
      {
        rule: "self.type != 'Window' || has(self.window)",
        message: 'updatePolicy.window is required when updatePolicy.type is Window',
        fieldPath: '.window',
        reason: 'FieldValueRequired',
      },
    ],
  },
  {
    type: defaults(
      words(['Manual', 'Window'], {
        description:
          'Manual: status says UpdateAvailable, and setting image rolls it out. Window: by itself, in the window.',
      }),
      'Manual',
    ),
    window: optional(window('When an update may restart the pods.')),
  },
)
