import { words } from '../../common/schema.ts'
import { block, defaultBlock, defaults, flag, list, optional, passThrough, text } from '../schema-types.ts'
import { secretRef } from './parts.ts'

export const security = defaultBlock(
  { description: 'Who may reach the data.' },
  {
    auth: defaultBlock(
      { description: 'Tokens of the data API.' },
      {
        secretRef: optional(
          secretRef(
            'Secret with the keys read, write and admin; each may hold two tokens, one a line, while they are changed. Default: <database>-auth, made by the operator.',
          ),
        ),
      },
    ),
    tls: optional(
      block(
        { description: 'TLS on the data port. Without this block it speaks plain HTTP.' },
        {
          secretRef: secretRef(
            'Secret with tls.crt and tls.key (type kubernetes.io/tls). A renewed certificate is taken up without a restart.',
          ),
        },
      ),
    ),
    socket: defaults(
      flag(
        'Unix socket /run/kvidx/kvidx.sock for containers of the same pod: reading and writing without a token. Default true.',
      ),
      true,
    ),
    encryption: optional(
      block(
        { description: 'Encryption (AES-256-GCM) of everything that goes to the backup destination.' },
        {
          secretRef: secretRef(
            'Secret with the keys: each entry is named by its key id and holds 32 bytes as 64 hex digits or base64.',
          ),
          keyId: text({
            description:
              'The key that new backups are encrypted with; older ones stay readable as long as their key is in the Secret.',
            minLength: 1,
            maxLength: 63,
            pattern: '^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$',
            form: 'the name of an entry: letters, digits, ., _ and -',
          }),
        },
      ),
    ),
    audit: defaults(
      words(['None', 'Admin', 'Write', 'All'], {
        description:
          'Which calls of the data API are logged with caller and key, never with data. Admin: administration only.',
      }),
      'Admin',
    ),
    networkPolicy: defaultBlock(
      { description: 'A NetworkPolicy for the pods.' },
      {
        enabled: defaults(flag('Make one. Default true.'), true),
        from: defaults(
          list(passThrough('A peer as in a NetworkPolicy: podSelector, namespaceSelector, ipBlock.'), {
            description:
              'Who reaches the data port besides the pods of the same namespace. Health and metrics can be reached by all.',
            maxItems: 32,
          }),
          [],
        ),
      },
    ),
  },
)
