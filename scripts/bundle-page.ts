/** Bundles the status page: src/page/ to the three files that the program serves. */
import { readFileSync } from 'node:fs'
import { basename, join } from 'node:path'
import { build } from 'esbuild'

const FOLDER = join(import.meta.dirname, '..', 'src', 'page')

/** By name. */
export async function bundlePage(): Promise<Record<'index.html' | 'page.js' | 'page.css', string>> {
  const { outputFiles } = await build({
    entryPoints: [join(FOLDER, 'page.tsx'), join(FOLDER, 'page.css')],
    outdir: 'status',
    bundle: true,
    write: false,
    minify: true,
    format: 'esm',
    target: 'es2022',
    jsx: 'automatic',
    jsxImportSource: 'preact',
    legalComments: 'none',
    logLevel: 'warning',
  })
  const text = (name: string): string => outputFiles.find(({ path }) => basename(path) === name)!.text
  return {
    'index.html': readFileSync(join(FOLDER, 'index.html'), 'utf8'),
    'page.js': text('page.js'),
    'page.css': text('page.css'),
  }
}
