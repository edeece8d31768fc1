/** The files of the status page: read once, when the program starts, and served by their exact paths. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { PLAIN, type Routes } from '../../serve/http.ts'

/** By path; the page itself has none. */
const TYPES = {
  'index.html': 'text/html; charset=utf-8',
  'page.js': 'text/javascript; charset=utf-8',
  'page.css': 'text/css; charset=utf-8',
} as const
export type FileName = keyof typeof TYPES
export type Files = Readonly<Record<FileName, string>>

/** Beside the bundle. */
const FOLDER = join(import.meta.dirname, 'status')

/** Throws an Error with a remedy where the page has not been built. */
export function readFiles(folder = FOLDER): Files {
  const read = (name: FileName): string => readFileSync(join(folder, name), 'utf8')
  try {
    return {
      'index.html': read('index.html'),
      'page.js': read('page.js'),
      'page.css': read('page.css'),
    }
  } catch (cause) {
    throw new Error(`Cannot serve the status page: ${folder} is not whole: "npm run build" makes it`, {
      cause,
    })
  }
}

/** The page is a folder, so that all it asks for is relative to it, wherever a proxy has put it. */
export function fileRoutes(files: Files): Routes {
  const file = (name: FileName) => () => ({ status: 200, type: TYPES[name], body: files[name] })
  return {
    '/status': () => ({ status: 308, type: PLAIN, body: '', headers: { Location: 'status/' } }),
    '/status/': file('index.html'),
    '/status/page.js': file('page.js'),
    '/status/page.css': file('page.css'),
  }
}
