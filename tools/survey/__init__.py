"""What the survey of the ecosystem executes: functions of libraries with arguments that they accept."""
