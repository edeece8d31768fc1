/** A browser without a screen. */
import { accessSync, constants } from 'node:fs'
import { delimiter, join } from 'node:path'
import { type Browser, chromium } from 'playwright-core'

/**
 * Debian's, or Google's. Ubuntu has only a stub that asks for a snap, which finds no home of root's: there scripts/setup
 * fetches the one that belongs to playwright-core.
 */
const NAMES = ['chromium', 'google-chrome']

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK)
    return true
  } catch {
    return false
  }
}

function findBrowser(): string {
  const folders = process.env.PATH!.split(delimiter)
  const onPath = NAMES.flatMap((name) => folders.map((folder) => join(folder, name)))
  const path = [chromium.executablePath(), ...onPath].find(isExecutable)
  if (path === undefined)
    throw new Error('There is no Chromium on this machine: "scripts/setup host" installs it')
  return path
}

/** Without its sandbox, which root cannot have: it only sees pages of this test. */
export async function openBrowser(): Promise<Browser> {
  return chromium.launch({ executablePath: findBrowser(), args: ['--no-sandbox'] })
}
