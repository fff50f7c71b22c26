// A person in a real, headless Chromium, as $BROWSER of `corral login`: signs in at npm's
// oidc-provider and waits for the page that the command line shows at the end.
import { appendFileSync } from 'node:fs';
import { pathToFileURL } from 'node:url';

const url = process.argv[2];
const said = (text) => appendFileSync(process.env.LOGIN_LOG, `${text}\n`);
const { chromium } = (await import(pathToFileURL(process.env.PLAYWRIGHT).href)).default;
const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM,
  args: ['--no-sandbox', '--disable-background-networking', '--disable-gpu'],
});
try {
  // The gateway's own authority is not in this browser's store.
  const page = await (await browser.newContext({ ignoreHTTPSErrors: true })).newPage();
  page.on('framenavigated', (frame) => said(`at ${new URL(frame.url()).pathname}`));
  await page.goto(url);
  await page.fill('input[name=login]', 'lin');
  await page.fill('input[name=password]', 'any');
  await page.click('button[type=submit]');
  await page.click('button[type=submit]');
  await page.waitForURL('http://127.0.0.1:*/callback?*');
  said(await page.textContent('body'));
} catch (error) {
  said(`failed: ${error}`);
} finally {
  await browser.close();
}
