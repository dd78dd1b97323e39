// Bundles the program into dist/.
import { fileURLToPath } from 'node:url'
import { bundle } from './bundle.ts'

console.log(`dist: ${await bundle(fileURLToPath(new URL('../dist/', import.meta.url)))}`)
