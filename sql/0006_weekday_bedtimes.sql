-- Bedtimes of the weekdays that differ from the usual one, such as {"friday":"00:30"}; null without any.

alter table profile add column bedtime_by_weekday text
    check (bedtime_by_weekday glob '{"*day":"[0-2][0-9]:[0-5][0-9]"}');
